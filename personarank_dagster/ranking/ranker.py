"""Reranking: the best persona of every candidate, the blend with the retriever's score, the new order."""

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from personarank_dagster.core import schemas
from personarank_dagster.core.profiles import FloatArray, IntArray, Windows, decay_weights
from personarank_dagster.ranking.elsewhere import Elsewhere

# Candidates in memory at a time, with all that is computed for them: some 200 MB.
BLOCK_PAIRS = 1 << 19
# Interactions that are named as the reasons of a place.
NUM_REASONS = 3

Scores = npt.NDArray[np.float64]


@dataclass(frozen=True)
class VectorTable:
    """Vectors (rows, dimension) and the table that says what each is; `index.vector_row` points into `vectors`."""

    vectors: npt.NDArray[np.floating]
    index: pl.DataFrame

    @cached_property
    def vector_rows(self) -> npt.NDArray[np.uint32]:
        """Row of `vectors` for each row of the index."""
        return self.index["vector_row"].to_numpy().astype(np.uint32)

    @cached_property
    def bits(self) -> npt.NDArray[np.uint16]:
        """The vectors as bits of fp16; mapped ones stay on disk."""
        return np.ascontiguousarray(self.vectors, dtype=np.float16).view(np.uint16)

    def windows(self, column: str) -> pl.DataFrame:
        """Rows of the index by the value of a column that it is grouped by: column, start, end."""
        rows = self.index.select(column).with_row_index("row").group_by(column, maintain_order=True)
        return rows.agg(start=pl.col("row").min().cast(pl.Int64), end=pl.col("row").max().cast(pl.Int64) + 1)


@dataclass(frozen=True)
class Lists:
    """Candidate lists as numbers: the pairs offsets[i]:offsets[i + 1] are list i, in the retriever's order.

    `profiles` are the interactions of each list's user, oldest first, `personas` those of each pair's item; windows
    without rows where there are none.
    """

    offsets: IntArray
    profiles: Windows
    personas: Windows

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def part(self, begin: int, end: int) -> "Lists":
        """Lists begin:end; their pairs start at 0."""
        offsets = self.offsets[begin : end + 1]
        pairs = slice(int(offsets[0]), int(offsets[-1]))
        return Lists(offsets - offsets[0], self.profiles[begin:end], self.personas[pairs])


@dataclass(frozen=True)
class PersonaScores:
    """For each pair the persona score, the row of its persona, and the interactions that speak most for it.

    Without a persona or a profile: NaN and -1. `reasons` (pairs, reasons) are rows of the interaction index, what
    adds most first, -1 beyond the last; `contributions` are what each adds to the persona score.
    """

    scores: FloatArray
    best: IntArray
    reasons: IntArray
    contributions: FloatArray

    @classmethod
    def empty(cls, pairs: int, num_reasons: int, num_signals: int = 0) -> "PersonaScores":
        """Room for the scores of some pairs, or for as many persona signals of each."""
        shape = (pairs, num_reasons)
        return cls(
            np.empty((pairs, num_signals) if num_signals else pairs, np.float32),
            np.empty(pairs, np.int64),
            np.empty(shape, np.int64),
            np.empty(shape, np.float32),
        )

    def part(self, pairs: slice) -> "PersonaScores":
        """A view of some pairs."""
        return PersonaScores(self.scores[pairs], self.best[pairs], self.reasons[pairs], self.contributions[pairs])


class OneList(NamedTuple):
    """One reranked list: persona score, its persona and final score of each pair, and the pairs, best first.

    `reasons` and `contributions` (places, reasons) are those of `PersonaScores`, for the first places only; `parts`
    (pairs, signals) what each signal adds to the score, without rows where one weight blends.
    """

    scores: FloatArray
    best: IntArray
    final: Scores
    order: IntArray
    reasons: IntArray
    contributions: FloatArray
    parts: FloatArray = np.empty((0, 0), np.float32)

    @classmethod
    def empty(cls, pairs: int, places: int) -> "OneList":
        """Room for a list."""
        shape = (places, NUM_REASONS)
        return cls(
            np.empty(pairs, np.float32),
            np.empty(pairs, np.int64),
            np.empty(pairs),
            np.empty(pairs, np.int64),
            np.empty(shape, np.int64),
            np.empty(shape, np.float32),
        )


def usable_cores() -> int:
    """Cores that this process may use: as many as it is bound to, and no more than $OMP_NUM_THREADS."""
    bound = len(os.sched_getaffinity(0))
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(bound, max(1, int(asked))) if asked.isdecimal() else bound


Scorer = Callable[["Ranker", Lists, int], PersonaScores]


def score_on_cores(ranker: "Ranker", lists: Lists, num_reasons: int, num_signals: int = 0) -> PersonaScores:
    """Persona scores of lists, or all persona signals, on all cores that this process may use."""
    found = PersonaScores.empty(len(lists.personas), num_reasons, num_signals)
    num_cores = usable_cores()
    bounds = np.linspace(0, len(lists), min(num_cores, max(1, len(lists))) + 1).astype(int)

    def score(begin: int, end: int) -> None:
        pairs = slice(int(lists.offsets[begin]), int(lists.offsets[end]))
        ranker.score_into(lists.part(begin, end), found.part(pairs))

    with ThreadPoolExecutor(num_cores) as pool:
        list(pool.map(score, bounds[:-1], bounds[1:]))
    return found


@dataclass(frozen=True)
class Ranker:
    """Both caches, ready to score candidates with. `users` and `items` say where each one's rows are.

    With `elsewhere` the lists of the table that is ranked are ranked there.
    """

    interactions: VectorTable
    personas: VectorTable
    users: pl.DataFrame
    items: pl.DataFrame
    weights: FloatArray
    scorer: Scorer = score_on_cores
    elsewhere: Elsewhere | None = None

    @classmethod
    def of(
        cls,
        interactions: VectorTable,
        personas: VectorTable,
        *,
        k: int,
        gamma: float,
        scorer: Scorer = score_on_cores,
        elsewhere: Elsewhere | None = None,
    ) -> "Ranker":
        """A ranker whose profiles are the last k interactions, weighted gamma ** age."""
        windows = interactions.windows("user_id")
        users = windows.with_columns(start=pl.max_horizontal("start", pl.col("end") - k))
        longest = int((users["end"] - users["start"]).max() or 0)  # type: ignore[arg-type]
        weights = decay_weights(np.arange(longest), gamma)
        return cls(interactions, personas, users, personas.windows("item_id"), weights, scorer, elsewhere)

    def with_exchanged_profiles(self, seed: int) -> "Ranker":
        """The same, every user with the profile of another one: what is not personal stays."""
        order = np.random.default_rng(seed).permutation(self.users.height)
        giver = np.empty_like(order)
        giver[order] = np.roll(order, 1)
        exchanged = self.users[giver].with_columns(user_id=self.users["user_id"])
        elsewhere = self.elsewhere and self.elsewhere.with_exchanged_profiles(seed)
        return replace(self, users=exchanged, elsewhere=elsewhere)

    def lists(self, candidates: pl.DataFrame) -> Lists:
        """Candidates as numbers; a user's rows are together."""
        firsts = (candidates["user_id"] != candidates["user_id"].shift()).fill_null(True).arg_true().to_numpy()
        offsets = np.append(firsts, candidates.height).astype(np.int64)
        return Lists(
            offsets,
            _windows(candidates["user_id"].gather(firsts), self.users),
            _windows(candidates["item_id"], self.items),
        )

    def score(self, lists: Lists, num_reasons: int = 0) -> PersonaScores:
        """Persona scores of lists, by whatever computes here."""
        return self.scorer(self, lists, num_reasons)

    def score_into(self, lists: Lists, found: PersonaScores) -> None:
        """Fill in the persona scores of lists, on one core; with columns of `found.scores`, all persona signals."""
        from personarank_dagster.ranking import kernels

        score: Any = kernels.signals_of_lists if found.scores.ndim == 2 else kernels.score_lists
        profiles, personas = lists.profiles, lists.personas
        windows = read_only(lists.offsets, profiles.starts, profiles.ends, personas.starts, personas.ends)
        score(*windows, *self.arrays, found.scores, found.best, found.reasons, found.contributions)

    def persona_signals(self, lists: Lists, num_signals: int, num_reasons: int = 0) -> PersonaScores:
        """`score`, with all persona signals (pairs, signals) in place of the scores; always by the compiled loop."""
        return score_on_cores(self, lists, num_reasons, num_signals)

    def rerank_one(
        self, profile: tuple[int, int], personas: Windows, candidate_scores: Scores, *, alpha: float, places: int
    ) -> OneList:
        """Rerank one list as `rerank` does: the interactions profile[0]:profile[1] and the personas of each pair."""
        from personarank_dagster.ranking import kernels

        rerank_list: Any = kernels.rerank_list
        found = OneList.empty(len(candidate_scores), min(places, len(candidate_scores)))
        rerank_list(*profile, personas.starts, personas.ends, candidate_scores, alpha, *self.arrays, *found[:6])
        return found

    @cached_property
    def arrays(self) -> list[npt.NDArray[Any]]:
        """What compiled code reads of both caches."""
        interactions, personas = self.interactions, self.personas
        of_interactions = interactions.bits, interactions.vector_rows, self.weights
        return read_only(*of_interactions, personas.bits, personas.vector_rows)

    def rerank(self, candidates: pl.DataFrame, alpha_of: Callable[[pl.Series], Scores]) -> pl.DataFrame:
        """Reorder candidate lists; columns of `schemas.RERANKED`, best first, users in their given order.

        score = alpha * minmax(persona score) + (1 - alpha) * minmax(candidate score), min and max over the user's
        list; ties keep the candidate order. Without a persona score (no profile, or no personas), or where the
        persona scores of a list lie closer together than rounding can tell (`MIN_SPREAD`), the score is the min-max
        candidate score alone. `alpha_of` gives the blend of each user.
        """
        lists = self.lists(candidates)
        found = self.score(lists, NUM_REASONS)
        alphas = alpha_of(candidates["user_id"].gather(lists.offsets[:-1]))
        final, order = order_pairs(lists, candidates["candidate_score"].to_numpy(), found.scores, alphas)
        own = {"alpha": np.repeat(alphas, np.diff(lists.offsets))}
        return self.reordered(candidates, lists, found, final, order, own).select(schemas.RERANKED.keys())

    def reordered(
        self,
        candidates: pl.DataFrame,
        lists: Lists,
        found: PersonaScores,
        final: Scores,
        order: IntArray,
        own: Mapping[str, Any],
    ) -> pl.DataFrame:
        """Candidates in a new order, with their score and its explanation, and columns of the way's own."""
        columns: dict[str, Any] = {
            "score": final,
            "persona_score": pl.Series(found.scores.astype(np.float64)).fill_nan(None),
            "unique_persona_id": gather(self.personas.index["unique_persona_id"], found.best),
            "interactions": self.reasons(found),
            **own,
        }
        places = np.arange(len(order)) - np.repeat(lists.offsets[:-1], np.diff(lists.offsets)) + 1
        ordered = candidates.with_columns(**{name: pl.Series(values) for name, values in columns.items()})[order]
        return ordered.with_columns(rank=pl.Series(places, dtype=pl.UInt32))

    def reasons(self, found: PersonaScores) -> pl.Series:
        """For each pair the items of the interactions that speak most for it, and what each contributes."""
        flat = pl.DataFrame(
            {
                "item_id": gather(self.interactions.index["item_id"], found.reasons.ravel()),
                "contribution": found.contributions.ravel(),
            }
        )
        padded = flat.to_struct().reshape(found.reasons.shape).arr.to_list()
        counts = (found.reasons >= 0).sum(axis=1)
        return pl.select(padded.list.head(pl.lit(pl.Series(counts)))).to_series() if len(padded) else padded


def order_pairs(
    lists: Lists, candidate_scores: Scores, persona_scores: FloatArray, alphas: Scores
) -> tuple[Scores, IntArray]:
    """Final score of every pair, and the pairs of each list, best first."""
    from personarank_dagster.ranking import kernels

    order_lists: Any = kernels.order_lists
    final, order = np.empty(len(candidate_scores)), np.empty(len(candidate_scores), np.int64)
    order_lists(*read_only(lists.offsets, candidate_scores, persona_scores, alphas), final, order)
    return final, order


def rerank(
    candidates: pl.DataFrame, interactions: VectorTable, personas: VectorTable, *, k: int, gamma: float, alpha: float
) -> pl.DataFrame:
    """Reorder every candidate list with one blend; see `Ranker.rerank`."""
    ranker = Ranker.of(interactions, personas, k=k, gamma=gamma)
    return pl.concat(ranker.rerank(block, lambda users: np.full(len(users), alpha)) for block in blocks(candidates))


def blocks(candidates: pl.DataFrame | pl.LazyFrame, pairs: int = BLOCK_PAIRS) -> Iterator[pl.DataFrame]:
    """Candidates in blocks of whole lists; one without rows if there are none."""
    held = candidates.lazy().collect_schema().to_frame()
    for batch in candidates.lazy().collect_batches(chunk_size=pairs, maintain_order=True):
        held = pl.concat([held, batch]) if held.height else batch
        if held.height >= pairs:
            # Rows of the last user, whose list may go on; 0 if there is no other.
            last = (held["user_id"] == held["user_id"][-1]).reverse().arg_min()
            if last:
                yield held[:-last]
                held = held[-last:]
    yield held.rechunk()


def gather(values: pl.Series, rows: IntArray) -> pl.Series:
    """Values at some rows, null at -1."""
    return values.gather(pl.Series(np.where(rows < 0, len(values), rows)), null_on_oob=True)


def coverage(reranked: pl.DataFrame | pl.LazyFrame) -> dict[str, int]:
    """Count users, candidates, and those that kept the candidate score alone."""
    rows, score = reranked.lazy(), pl.col("persona_score")
    by_user = rows.group_by("user_id").agg(spread=score.max() - score.min(), moved=_moved().any())
    users = by_user.select(
        users=pl.len(),
        users_with_a_new_order=pl.col("moved").sum(),
        users_without_persona_scores=pl.col("spread").null_count(),
        users_whose_persona_scores_are_alike=(pl.col("spread") < min_spread()).sum(),
    )
    pairs = rows.select(candidates=pl.len(), candidates_without_persona_score=pl.col("persona_score").null_count())
    counted = pl.concat([users, pairs], how="horizontal").collect(engine="streaming")
    return {name: int(count) for name, count in counted.row(0, named=True).items()}


def min_spread() -> float:
    """How far apart persona scores of a list must lie to say anything about its order."""
    from personarank_dagster.ranking.kernels import MIN_SPREAD

    return MIN_SPREAD


def read_only(*arrays: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    """Views that cannot be written to: numba compiles anew for each mix of arrays that can and cannot."""
    views = [array.view() for array in arrays]
    for view in views:
        view.flags.writeable = False
    return views


def _moved() -> pl.Expr:
    return pl.col("rank") != pl.col("candidate_rank")


def _windows(keys: pl.Series, places: pl.DataFrame) -> Windows:
    """Rows of each key, none where it is not known. The distinct keys are looked up, since a join hashes one side."""
    column = places.columns[0]
    distinct = keys.alias(column).unique().to_frame()
    known = distinct.join(places, on=column, how="inner")
    found = keys.alias(column).to_frame().join(known, on=column, how="left", maintain_order="left")
    filled = found.with_columns(pl.col("start", "end").fill_null(0))
    return Windows(filled["start"].to_numpy(), filled["end"].to_numpy())
