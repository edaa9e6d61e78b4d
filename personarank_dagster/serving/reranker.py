"""Rerank for one user at a time, from the caches that are current: for services and notebooks, without Dagster."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl
import xxhash
from upath import UPath

from personarank_dagster.core.errors import InputError, StorageError, listed_by_name
from personarank_dagster.core.profiles import Windows, decay_weights, unit_rows
from personarank_dagster.ranking.ranker import Ranker, VectorTable
from personarank_dagster.serving.candidates import Candidates, finite_scores, without_repeats
from personarank_dagster.serving.following import Following
from personarank_dagster.serving.given_histories import HistoryReader, Interaction
from personarank_dagster.serving.published import Pointers, Published
from personarank_dagster.serving.rankings import Ranking, Reranked
from personarank_dagster.serving.served_blends import ServedBlend, served_blend, setting
from personarank_dagster.serving.strings import Strings
from personarank_dagster.storage.bucket import bucket_path
from personarank_dagster.storage.encoder_directory import open_encoder
from personarank_dagster.storage.tables import TABLE
from personarank_dagster.storage.versions import Version
from personarank_dagster.vectors.embeddings import made_with, read_embeddings

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

CACHES = ("interaction_cache", "persona_cache")
ASSETS = (*CACHES, "reranked_candidates")
NO_PROFILE = (0, 0)
# Users or items that are put into a dictionary at a time; other threads have a turn in between.
LOOKUP_ROWS = 20_000


class Reranker:
    """Reranks with the current caches of one dataset; threads may share it.

    A new version of the caches is opened in the background, as soon as both are by the same encoder, and then taken
    up; no call waits for it.
    """

    def __init__(self, out_root: Path | UPath, copies: Path | None = None) -> None:
        self.out_root = out_root
        self.published = Published(out_root, copies)
        self.following = Following(Pointers(self.published, ASSETS), lambda: _Caches.open(self.published))

    @classmethod
    def open(cls, out_root: str | Path | UPath, copies: Path | None = None) -> "Reranker":
        """Open the outputs of one dataset, its `out_root`; of a bucket, by way of copies in the folder `copies`.

        Raises StorageError if they are not there; `personarank run` makes them.
        """
        if copies is not None:
            return cls(bucket_path(str(out_root)), copies)
        return cls(_dataset_root(Path(str(out_root))))

    def rerank(
        self,
        user_id: str | None = None,
        candidates: Sequence[tuple[str, float]] = (),
        k: int | None = None,
        *,
        history: Sequence[str | Interaction] | None = None,
        explain: bool = True,
    ) -> Reranked:
        """The best k of `candidates`, (item, retriever's score) pairs, best first, each with its explanation.

        The profile is that of `user_id` in the interaction cache, or of `history`: texts of interactions, oldest
        first, as `TextTemplate.interaction_texts` writes them, or items (`Interaction`). Texts are encoded, which
        loads the encoder at the first time. An unknown user gets the candidates in their order, and a note that says
        so. `[PAD]` entries and repeated items are left out, as in the batch. Raises InputError if there is neither a
        user nor a history, or for a score that is no finite number. Without `explain` no place has reasons, which is
        faster.
        """
        kept, left_out = without_repeats(candidates)
        result = self.rank(user_id, kept, k, history=history, explain=explain).places()
        if left_out:
            result.note = "; ".join(part for part in (result.note, left_out) if part)
        return result

    def rank(
        self,
        user_id: str | None,
        candidates: Candidates,
        k: int | None = None,
        *,
        history: Sequence[str | Interaction] | None = None,
        explain: bool = True,
    ) -> Ranking:
        """`rerank` of candidates without repeats, in arrays: for services, which write their answers from these."""
        caches = self.following.current()
        if (user_id is None) == (history is None):
            raise InputError("rerank needs either user_id or history, got both or neither")
        if history is None:
            own = caches.window_by_user.get(str(user_id), NO_PROFILE)
            return caches.rank(caches.ranker, own, caches.items, candidates, k, f"unknown user {user_id}", explain)
        ranker, places = caches.ranker_of(history)
        missing = "nothing of the history is known and liked" if history else "the history is empty"
        return caches.rank(ranker, (0, len(places)), places, candidates, k, missing, explain)

    def persona(self, unique_persona_id: str) -> dict[str, Any]:
        """What is known of a persona: name, description, preference_rationale, item_summary. Reads from disk."""
        version = self.published.store("personas").current()
        rows = pl.scan_parquet(version.directory / TABLE).filter(unique_persona_id=unique_persona_id).collect()
        if rows.is_empty():
            raise InputError(f"{self.out_root}: unknown persona {unique_persona_id}; ids are <item_id>_<ID>")
        return rows.row(0, named=True)


# Items of the cache's interactions, or places in a given history.
_Names = Strings | list[int]


@dataclass(frozen=True)
class _Caches:
    """Both caches of one encoder, looked up by user and item."""

    ranker: Ranker
    blend: ServedBlend
    k: int
    gamma: float
    min_rating: float
    window_by_user: Mapping[str, tuple[int, int]]
    row_by_item: Mapping[str, int]
    persona_windows: Windows
    items: Strings
    personas: Strings
    encoder_path: Path | None
    version: str
    _loading: threading.Lock

    @classmethod
    def open(cls, published: Published) -> "_Caches":
        versions = published.current(ASSETS)
        encoder_path = _encoder_path(published, versions)
        settings = versions["reranked_candidates"].manifest.details
        k, gamma = int(setting(published, settings, "user_max_k")), float(setting(published, settings, "gamma"))
        interactions, personas = (read_embeddings(versions[cache].directory) for cache in CACHES)
        ranker = Ranker.of(interactions, personas, k=k, gamma=gamma)
        return cls(
            ranker=ranker,
            blend=served_blend(published, versions["reranked_candidates"]),
            k=k,
            gamma=gamma,
            min_rating=_min_rating(versions["interaction_cache"]),
            window_by_user=_by_key(ranker.users["user_id"], ranker.users.select("start", "end")),
            row_by_item=_by_key(ranker.items["item_id"], ranker.items.select(row=pl.int_range(pl.len()))),
            persona_windows=Windows(*(np.append(ranker.items[side].to_numpy(), 0) for side in ("start", "end"))),
            items=Strings(interactions.index["item_id"]),
            personas=Strings(personas.index["unique_persona_id"]),
            encoder_path=encoder_path,
            version=_joint_name(versions),
            _loading=threading.Lock(),
        )

    def rank(
        self,
        ranker: Ranker,
        profile: tuple[int, int],
        names: _Names,
        candidates: Candidates,
        k: int | None,
        missing: str,
        explain: bool,
    ) -> Ranking:
        row_of = self.row_by_item.get
        # Items that are not known have the last windows, which are empty.
        rows = [row_of(item, -1) for item, _ in candidates]
        at = np.array(rows, dtype=np.int64)
        personas = Windows(self.persona_windows.starts[at], self.persona_windows.ends[at])
        places = len(candidates) if k is None else max(0, k)
        found = self.blend.rerank(
            ranker, profile, personas, candidates, scores=finite_scores(candidates), places=places if explain else 0
        )
        has_profile = profile[0] < profile[1]
        return Ranking(
            candidates,
            found if places >= len(candidates) else found._replace(order=found.order[:places]),
            self.personas,
            [names[row] for row in range(*profile)] if explain else (),
            profile[0],
            has_profile,
            rows.count(-1),
            self.version,
            None if has_profile else f"{missing}; {self.blend.without_profile}",
        )

    def ranker_of(self, history: Sequence[str | Interaction]) -> tuple[Ranker, list[int]]:
        """A ranker over the vectors of what counts of a history, and their places in it."""
        interactions, personas = self.ranker.interactions, self.ranker.personas
        reader = HistoryReader(interactions, personas, self.k, self.min_rating, self._encode)
        given = reader.read(history)
        rows = np.arange(len(given.vectors))
        table = VectorTable(given.vectors, pl.DataFrame({"vector_row": rows}))
        return replace(self.ranker, interactions=table, weights=decay_weights(rows, self.gamma)), given.places

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


def _encoder_path(published: Published, versions: Mapping[str, Version]) -> Path | None:
    """Folder of the encoder that made both caches, None if it is not kept. Raises StorageError if they are by two."""
    spaces = {cache: " ".join(made_with(versions[cache]).space) for cache in CACHES}
    if len(set(spaces.values())) > 1:
        got, out_root = listed_by_name(spaces), published.out_root
        raise StorageError(f"{out_root}: both caches must be by one encoder, got {got}; `personarank run` makes them")
    encoder = made_with(versions[CACHES[0]]).encoder
    return next((one.directory for one in _encoders(published) if one.manifest.data_version == encoder), None)


def _encoders(published: Published) -> Iterator[Version]:
    """Kept encoders, newest first; lists need none, so that a damaged one is no reason to refuse them."""
    with suppress(StorageError):
        store = published.store("trained_encoder")
        for name in reversed(store.names()):
            with suppress(StorageError):
                yield store.open(name)


def _min_rating(interaction_cache: Version) -> float:
    return float(interaction_cache.manifest.provenance.settings.get("min_rating", 0))


def _joint_name(versions: Mapping[str, Version]) -> str:
    """The time of the newest of some versions, and a hash of all their names."""
    names = sorted(version.name for version in versions.values())
    return f"{max(names).split('-')[0]}-{xxhash.xxh3_64_hexdigest(' '.join(names).encode())[:8]}"


def _by_key(keys: pl.Series, values: pl.DataFrame) -> dict[str, Any]:
    """The row of values of each key, or the value if there is one column."""
    found: dict[str, Any] = {}
    for part in values.with_columns(keys.alias("key")).iter_slices(LOOKUP_ROWS):
        columns = [part[name].to_list() for name in values.columns]
        rows = columns[0] if len(columns) == 1 else zip(*columns, strict=True)
        found.update(zip(part["key"].to_list(), rows, strict=True))
    return found


def _dataset_root(out_root: Path) -> Path:
    if (out_root / "versions").is_dir():
        return out_root
    inner = sorted(path.parent.name for path in out_root.glob("*/versions") if path.is_dir())
    hint = f"; give the folder of one dataset: {', '.join(inner)}" if inner else "; `personarank run` makes them"
    raise StorageError(f"{out_root}: holds no outputs of a dataset{hint}")
