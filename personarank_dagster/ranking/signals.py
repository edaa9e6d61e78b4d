"""What a list is ranked by where the blend is learned: signals of every candidate, each between the best and worst."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from personarank_dagster.core.profiles import FloatArray, IntArray
from personarank_dagster.ranking.ranker import Lists, Ranker, Scores, read_only

# What each says of a candidate. Those of personas stand between the two of the retriever and popularity.
SIGNALS: Mapping[str, str] = {
    "rank": "the retriever's place",
    "candidate_score": "the retriever's score",
    "best_persona": "the best persona",
    "two_best_personas": "its two best personas",
    "all_personas": "all its personas",
    "best_pair": "one interaction and one persona",
    "every_interaction": "the nearest persona of every interaction",
    "popularity": "its popularity",
}
PERSONA_SIGNALS = slice(2, 7)
NUM_PERSONA_SIGNALS = 5
# What a reranker that knows no personas learns from.
WITHOUT_PERSONAS = ("rank", "candidate_score", "popularity")

Signals = npt.NDArray[np.float32]


@dataclass(frozen=True)
class SignalScores:
    """For each pair its signals (pairs, signals), the row of its best persona, and the reasons of `PersonaScores`.

    `persona_scores` are the cosines with the best persona, as they are; NaN where there is none.
    """

    signals: Signals
    persona_scores: FloatArray
    best: IntArray
    reasons: IntArray
    contributions: FloatArray


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
    return SignalScores(signals, found.scores[:, 0].copy(), found.best, found.reasons, found.contributions)


def order_by_signals(lists: Lists, signals: Signals, weights: Scores) -> tuple[Scores, IntArray, Signals]:
    """Final score of every pair by the weights (lists, signals), the pairs of each list, best first, and the parts.

    A score is the sum of its parts (pairs, signals): how far each signal, times its weight, is from the list's mean.
    """
    from personarank_dagster.ranking import kernels

    order: Any = kernels.order_by_signals
    final, pairs, parts = np.empty(len(signals)), np.empty(len(signals), np.int64), np.empty_like(signals)
    order(*read_only(lists.offsets, signals, np.ascontiguousarray(weights, np.float64)), parts, final, pairs)
    return final, pairs, parts
