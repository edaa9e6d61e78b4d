"""Rerank for one user at a time, from the caches that are current: for services and notebooks, without Dagster."""

import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from personarank_dagster.core.errors import InputError, StorageError, listed_by_name
from personarank_dagster.core.profiles import Windows, decay_weights, unit_rows
from personarank_dagster.ranking.ranker import OneList, Ranker, VectorTable
from personarank_dagster.storage.encoder_directory import open_encoder
from personarank_dagster.storage.places import POINTER
from personarank_dagster.storage.tables import TABLE
from personarank_dagster.storage.versions import Version, VersionStore
from personarank_dagster.vectors.embeddings import made_with, read_embeddings

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

CACHES = ("interaction_cache", "persona_cache")
ASSETS = (*CACHES, "reranked_candidates")
# How long a call may take for granted that nothing new was published: looking takes a tenth of a call.
LOOK_SECONDS = 0.01


class Reason(NamedTuple):
    """An interaction of the user, by its item or its place in the given history, and what it adds to the score."""

    interaction: str | int
    contribution: float


class Place(NamedTuple):
    """One place of a reranked list. Without a persona score (see `Reranked.note`) the explanation is empty."""

    item_id: str
    rank: int
    candidate_rank: int
    score: float
    candidate_score: float
    persona_score: float | None
    unique_persona_id: str | None
    reasons: tuple[Reason, ...]


class Reranked(list[Place]):
    """The places, best first; `note` says why there is no new order, where there is none."""

    note: str | None = None


class Reranker:
    """Reranks with the current caches of one dataset; threads may share it.

    A new version of the caches is taken up within LOOK_SECONDS, as soon as both caches are by the same encoder.
    """

    def __init__(self, out_root: Path) -> None:
        self.out_root = out_root
        self._lock = threading.Lock()
        self._look_again = 0.0
        self._seen = self._pointers()
        self._caches = _Caches.open(out_root)

    @classmethod
    def open(cls, out_root: str | Path) -> "Reranker":
        """Open the outputs of one dataset, its `out_root`.

        Raises StorageError if they are not there; `personarank run` makes them.
        """
        return cls(_dataset_root(Path(out_root)))

    def rerank(
        self,
        user_id: str | None = None,
        candidates: Sequence[tuple[str, float]] = (),
        k: int | None = None,
        *,
        history: Sequence[str] | None = None,
    ) -> Reranked:
        """The best k of `candidates`, (item, retriever's score) pairs, best first, each with its explanation.

        The profile is that of `user_id` in the interaction cache, or of `history`: texts of interactions, oldest
        first, as `TextTemplate.interaction_texts` writes them; these are encoded, which loads the encoder at the
        first time. An unknown user gets the candidates in their order, and a note that says so. Raises InputError
        if there is neither a user nor a history, or if a candidate is listed twice.
        """
        caches = self._current()
        if (user_id is None) == (history is None):
            raise InputError("rerank needs either user_id or history, got both or neither")
        items = [item for item, _ in candidates]
        if len(set(items)) < len(items):
            raise InputError(f"candidates of {user_id or 'a history'}: an item is listed twice; list each once")
        if history is None:
            own = caches.window_by_user.get(str(user_id))
            return caches.rerank(caches.ranker, own, caches.items, candidates, k, f"unknown user {user_id}")
        ranker, first = caches.ranker_of(history)
        window = (0, len(history) - first)
        return caches.rerank(ranker, window, range(first, len(history)), candidates, k, "the history is empty")

    def persona(self, unique_persona_id: str) -> dict[str, Any]:
        """What is known of a persona: name, description, preference_rationale, item_summary. Reads from disk."""
        version = VersionStore(*_store(self.out_root, "personas")).current()
        rows = pl.scan_parquet(version.directory / TABLE).filter(unique_persona_id=unique_persona_id).collect()
        if rows.is_empty():
            raise InputError(f"{self.out_root}: unknown persona {unique_persona_id}; ids are <item_id>_<ID>")
        return rows.row(0, named=True)

    def _current(self) -> "_Caches":
        now = time.monotonic()
        if now >= self._look_again:
            self._look_again = now + LOOK_SECONDS
            if (pointers := self._pointers()) != self._seen:
                with self._lock:
                    if pointers != self._seen:
                        self._take_up(pointers)
        return self._caches

    def _take_up(self, pointers: list[tuple[int, int]]) -> None:
        try:
            self._caches = _Caches.open(self.out_root)
        except StorageError:
            # Half of a refresh is published: what is open stays right, and a later call looks again.
            return
        self._seen = pointers

    def _pointers(self) -> list[tuple[int, int]]:
        """Which files the pointers are; publishing replaces them."""
        found = []
        for path in self._pointer_paths:
            status = os.stat(path)
            found.append((status.st_ino, status.st_mtime_ns))
        return found

    @cached_property
    def _pointer_paths(self) -> list[str]:
        return [str(VersionStore(*_store(self.out_root, asset)).root / POINTER) for asset in ASSETS]


class _Strings:
    """Strings by their row, in one piece of memory: a tenth of what as many Python strings take."""

    def __init__(self, values: pl.Series) -> None:
        self._bytes = (values.str.join("").item() or "").encode()
        ends = values.str.len_bytes().cum_sum().to_numpy()
        # A view gives Python's own numbers, several times faster than numpy its.
        self._bounds = np.append(np.int64(0), ends.astype(np.int64)).data

    def __getitem__(self, row: int) -> str:
        start, end = self._bounds[row], self._bounds[row + 1]
        return self._bytes[start:end].decode()


# Items of the cache's interactions, or places in a given history.
_Names = _Strings | range


@dataclass(frozen=True)
class _Caches:
    """Both caches of one encoder, looked up by user and item."""

    ranker: Ranker
    alpha: float
    k: int
    gamma: float
    window_by_user: Mapping[str, tuple[int, int]]
    row_by_item: Mapping[str, int]
    persona_windows: Windows
    items: _Strings
    personas: _Strings
    encoder_path: Path | None
    _loading: threading.Lock

    @classmethod
    def open(cls, out_root: Path) -> "_Caches":
        versions = {asset: VersionStore(*_store(out_root, asset)).current() for asset in ASSETS}
        encoder_path = _encoder_path(out_root, versions)
        settings = versions["reranked_candidates"].manifest.details
        if missing := {"serving_alpha", "user_max_k", "gamma"} - settings.keys():
            lacking = ", ".join(sorted(missing))
            raise StorageError(
                f"{out_root}: reranked_candidates does not say {lacking}; `personarank run` makes it anew"
            )
        k, gamma = int(settings["user_max_k"]), float(settings["gamma"])
        interactions, personas = (read_embeddings(versions[cache].directory) for cache in CACHES)
        ranker = Ranker.of(interactions, personas, k=k, gamma=gamma)
        return cls(
            ranker=ranker,
            alpha=float(settings["serving_alpha"]),
            k=k,
            gamma=gamma,
            window_by_user=_by_key(ranker.users),
            row_by_item={item: row for row, item in enumerate(ranker.items["item_id"].to_list())},
            persona_windows=Windows(*(np.append(ranker.items[side].to_numpy(), 0) for side in ("start", "end"))),
            items=_Strings(interactions.index["item_id"]),
            personas=_Strings(personas.index["unique_persona_id"]),
            encoder_path=encoder_path,
            _loading=threading.Lock(),
        )

    def rerank(
        self,
        ranker: Ranker,
        own: tuple[int, int] | None,
        names: _Names,
        candidates: Sequence[tuple[str, float]],
        k: int | None,
        missing: str,
    ) -> Reranked:
        profile = own or (0, 0)
        # Items that are not known have the last windows, which are empty.
        row_of = self.row_by_item.get
        rows = np.array([row_of(item, -1) for item, _ in candidates], dtype=np.int64)
        personas = Windows(self.persona_windows.starts[rows], self.persona_windows.ends[rows])
        scores = np.array([score for _, score in candidates], dtype=np.float64)
        places = len(candidates) if k is None else max(0, k)
        found = ranker.rerank_one(profile, personas, scores, alpha=self.alpha, places=places)
        interactions = [names[row] for row in range(*profile)]
        result = Reranked(_places(candidates, found, interactions, profile[0], self.personas))
        if profile[0] == profile[1]:
            result.note = f"{missing}; the candidates keep their order"
        return result

    def ranker_of(self, history: Sequence[str]) -> tuple[Ranker, int]:
        """A ranker over the vectors of the last k of these texts, and the place of the first of them."""
        first = max(0, len(history) - self.k)
        vectors = self._encode(list(history)[first:]) if history else np.zeros((0, 1), np.float32)
        table = VectorTable(vectors, pl.DataFrame({"vector_row": np.arange(len(vectors))}))
        weights = decay_weights(np.arange(len(vectors)), self.gamma)
        return replace(self.ranker, interactions=table, weights=weights), first

    def _encode(self, texts: list[str]) -> npt.NDArray[np.float32]:
        with self._loading:
            vectors: npt.NDArray[np.float32] = self.encoder.encode_query(texts, show_progress_bar=False)
        return unit_rows(vectors.reshape(len(texts), -1))

    @cached_property
    def encoder(self) -> "SentenceTransformer":
        """The encoder of both caches. Raises StorageError if it was removed."""
        from personarank_dagster.encoding.encoder import load_model

        if self.encoder_path is None:
            raise StorageError(
                "a history of texts needs the trained encoder of the caches, which are by another model or older "
                "than what is kept; `personarank run` makes new ones"
            )
        directory = open_encoder(self.encoder_path)
        return load_model(str(directory.path), max_len=directory.info.max_len, device="cpu")


def _places(
    candidates: Sequence[tuple[str, float]],
    found: OneList,
    interactions: Sequence[str | int],
    first_interaction: int,
    personas: _Strings,
) -> list[Place]:
    """The first places; `interactions` are those of the profile, from `first_interaction` of the index on."""
    scores, best, final = found.scores.tolist(), found.best.tolist(), found.final.tolist()
    by_place = zip(found.order.tolist(), found.reasons.tolist(), found.contributions.tolist(), strict=False)
    places = []
    for rank, (pair, reasons, contributions) in enumerate(by_place, 1):
        item, candidate_score = candidates[pair]
        persona, persona_score = None, None
        told: tuple[Reason, ...] = ()
        if (row := best[pair]) >= 0:
            persona, persona_score = personas[row], scores[pair]
            parts = zip(reasons, contributions, strict=True)
            told = tuple([Reason(interactions[at - first_interaction], amount) for at, amount in parts if at >= 0])
        places.append(Place(item, rank, pair + 1, final[pair], candidate_score, persona_score, persona, told))
    return places


def _encoder_path(out_root: Path, versions: Mapping[str, Version]) -> Path | None:
    """Folder of the encoder that made both caches, None if it is not kept. Raises StorageError if they are by two."""
    spaces = {cache: " ".join(made_with(versions[cache]).space) for cache in CACHES}
    if len(set(spaces.values())) > 1:
        got = listed_by_name(spaces)
        raise StorageError(f"{out_root}: both caches must be by one encoder, got {got}; `personarank run` makes them")
    encoder = made_with(versions[CACHES[0]]).encoder
    store = VersionStore(*_store(out_root, "trained_encoder"))
    kept = (store.open(name) for name in reversed(store.names()))
    return next((one.directory for one in kept if one.manifest.data_version == encoder), None)


def _by_key(windows: pl.DataFrame) -> dict[str, tuple[int, int]]:
    keys, starts, ends = (windows[column].to_list() for column in windows.columns)
    return dict(zip(keys, zip(starts, ends, strict=True), strict=True))


def _dataset_root(out_root: Path) -> Path:
    if (out_root / "versions").is_dir():
        return out_root
    inner = sorted(path.parent.name for path in out_root.glob("*/versions") if path.is_dir())
    hint = f"; give the folder of one dataset: {', '.join(inner)}" if inner else "; `personarank run` makes them"
    raise StorageError(f"{out_root}: holds no outputs of a dataset{hint}")


def _store(out_root: Path, asset: str) -> tuple[Path, str, str]:
    """Base, asset and partition of the outputs that lie below a dataset's `out_root`."""
    folders = sorted((out_root / "versions" / asset).glob(f"*/{POINTER}"))
    if len(folders) != 1:
        names = ", ".join(folder.parent.name for folder in folders)
        remedy = "`personarank doctor` says how to remove a former one" if names else "`personarank run` makes it"
        raise StorageError(f"{out_root}: expected one dataset with {asset}, got {names or 'none'}; {remedy}")
    return out_root / "versions", asset, folders[0].parent.name
