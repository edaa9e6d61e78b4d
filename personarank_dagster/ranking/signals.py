"""What a list is ranked by where the blend is learned: signals of every candidate, scaled over the list."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from personarank_dagster.core import schemas
from personarank_dagster.core.profiles import IntArray, Windows
from personarank_dagster.ranking.ranker import NUM_REASONS, Lists, OneList, PersonaScores, Ranker, Scores, read_only

# What each says of a candidate. Those of personas stand between the two of the retriever and popularity.
SIGNALS = schemas.SIGNAL_NAMES
NUM_PERSONA_SIGNALS = 5
# What a reranker that knows no personas learns from.
WITHOUT_PERSONAS = ("rank", "candidate_score", "popularity")

Signals = npt.NDArray[np.float32]


@dataclass(frozen=True)
class SignalScores:
    """The signals (pairs, signals) of each pair; and its persona score, best persona and reasons."""

    signals: Signals
    personas: PersonaScores


def item_counts(interactions: pl.DataFrame | pl.LazyFrame) -> pl.DataFrame:
    """item_id, count: how often each item occurs in the training interactions."""
    return interactions.lazy().group_by("item_id").agg(count=pl.len().cast(pl.Float64)).collect()


def signal_scores(
    ranker: Ranker, lists: Lists, candidates: pl.DataFrame, counts: pl.DataFrame, num_reasons: int = 0
) -> SignalScores:
    """Signals of candidates; `counts` as `item_counts` gives them, and an item that is not in them counts 0."""
    from personarank_dagster.ranking import kernels

    fill_signals: Any = kernels.fill_signals
    found = ranker.persona_signals(lists, NUM_PERSONA_SIGNALS, num_reasons)
    popularity = candidates.select("item_id").join(counts, on="item_id", how="left", maintain_order="left")["count"]
    signals = np.empty((candidates.height, len(SIGNALS)), np.float32)
    inputs = candidates["candidate_score"].to_numpy(), found.scores, popularity.fill_null(0).to_numpy()
    fill_signals(*read_only(lists.offsets, *inputs), signals)
    return SignalScores(signals, replace(found, scores=found.scores[:, 0]))


def order_by_signals(lists: Lists, signals: Signals, weights: Scores) -> tuple[Scores, IntArray, Signals]:
    """Final score of every pair by the weights (lists, signals), the pairs of each list, best first, and the parts.

    A score is the sum of its parts (pairs, signals): how far each signal, times its weight, is from the list's mean.
    """
    from personarank_dagster.ranking import kernels

    order: Any = kernels.order_by_signals
    final, pairs, parts = np.empty(len(signals)), np.empty(len(signals), np.int64), np.empty_like(signals)
    order(*read_only(lists.offsets, signals, np.ascontiguousarray(weights, np.float64)), parts, final, pairs)
    return final, pairs, parts


def rerank_by_signals(
    ranker: Ranker, candidates: pl.DataFrame, counts: pl.DataFrame, weights_of: Callable[[pl.Series], Scores]
) -> pl.DataFrame:
    """Reorder candidate lists; columns of `schemas.RERANKED_BY_SIGNALS`, best first, users in their given order.

    score = the sum over signals of weight * (signal - its mean over the list): 0 is the middle of a list. The parts
    stand in `signals`. Ties keep the candidate order. `weights_of` gives the weights (users, signals) of each user.
    """
    lists = ranker.lists(candidates)
    found = signal_scores(ranker, lists, candidates, counts, NUM_REASONS)
    weights = weights_of(candidates["user_id"].gather(lists.offsets[:-1]))
    final, order, parts = order_by_signals(lists, found.signals, weights)
    named = pl.DataFrame(parts, schema=[*SIGNALS], orient="row").to_struct("signals")
    own = {"alpha": pl.Series([None] * candidates.height, dtype=pl.Float64), "signals": named}
    reordered = ranker.reordered(candidates, lists, found.personas, final, order, own)
    return reordered.select(schemas.RERANKED_BY_SIGNALS.keys())


def rerank_one_by_signals(
    ranker: Ranker,
    profile: tuple[int, int],
    personas: Windows,
    candidate_scores: Scores,
    popularity: Scores,
    *,
    weights: Scores,
    places: int,
) -> OneList:
    """Rerank one list as `rerank_by_signals` does; see `Ranker.rerank_one`. `popularity` are counts of the pairs."""
    from personarank_dagster.ranking import kernels

    rerank_list: Any = kernels.rerank_list_by_signals
    pairs = len(candidate_scores)
    found = OneList.empty(pairs, min(places, pairs))
    persona_signals, parts = (
        np.empty((pairs, NUM_PERSONA_SIGNALS), np.float32),
        np.empty((pairs, len(SIGNALS)), np.float32),
    )
    inputs = personas.starts, personas.ends, candidate_scores, popularity, weights
    rerank_list(*profile, *inputs, *ranker.arrays, persona_signals, parts, *found[1:6])
    return found._replace(scores=persona_signals[:, 0], parts=parts)


def named_parts(parts: Sequence[float]) -> dict[str, float]:
    """Parts of a score by the name of their signal."""
    return dict(zip(SIGNALS, parts, strict=True))
