"""The blend for users who have no list yet, as the published lists say: one weight, or one of every signal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from personarank_dagster.core.errors import StorageError
from personarank_dagster.core.profiles import Windows
from personarank_dagster.ranking.ranker import OneList, Ranker, Scores
from personarank_dagster.ranking.signals import SIGNALS, item_counts, rerank_one_by_signals
from personarank_dagster.serving.published import Published
from personarank_dagster.storage.tables import TABLE
from personarank_dagster.storage.versions import Version

Candidates = Sequence[tuple[str, float]]


@dataclass(frozen=True)
class OneWeight:
    """`alpha` of all users."""

    alpha: float
    without_profile = "the candidates keep their order"

    def rerank(
        self,
        ranker: Ranker,
        profile: tuple[int, int],
        personas: Windows,
        candidates: Candidates,
        *,
        scores: Scores,
        places: int,
    ) -> OneList:
        """Rerank one list; see `Ranker.rerank_one`."""
        return ranker.rerank_one(profile, personas, scores, alpha=self.alpha, places=places)


@dataclass(frozen=True)
class LearnedWeights:
    """A weight for each signal; `counts` are the training interactions of each item."""

    weights: Scores
    counts: Mapping[str, float]
    without_profile = "ranked by the retriever and popularity alone"

    def rerank(
        self,
        ranker: Ranker,
        profile: tuple[int, int],
        personas: Windows,
        candidates: Candidates,
        *,
        scores: Scores,
        places: int,
    ) -> OneList:
        """Rerank one list; see `rerank_by_signals`."""
        count_of = self.counts.get
        popularity = np.array([count_of(item, 0.0) for item, _ in candidates], dtype=np.float64)
        lists = personas, scores, popularity
        return rerank_one_by_signals(ranker, profile, *lists, weights=self.weights, places=places)


ServedBlend = OneWeight | LearnedWeights


def served_blend(published: Published, lists: Version) -> ServedBlend:
    """The blend in the manifest of reranked_candidates. Raises StorageError if there is none."""
    details = lists.manifest.details
    learned = [details.get(f"serving weight of {name}") for name in SIGNALS]
    if all(weight is not None for weight in learned):
        return LearnedWeights(np.array(learned, dtype=np.float64), _counts(published, lists))
    return OneWeight(float(setting(published, details, "serving_alpha")))


def setting(published: Published, details: Mapping[str, Any], name: str) -> Any:
    """A number of the manifest of reranked_candidates. Raises StorageError if it is not there."""
    if name not in details:
        raise StorageError(
            f"{published.out_root}: reranked_candidates does not say {name}; `personarank run` makes it anew"
        )
    return details[name]


def _counts(published: Published, lists: Version) -> dict[str, float]:
    """How often each item occurs in the histories that the lists were ranked with."""
    histories = published.store("histories").open(lists.manifest.provenance.versions["histories"])
    return dict(item_counts(pl.scan_parquet(histories.directory / TABLE)).iter_rows())
