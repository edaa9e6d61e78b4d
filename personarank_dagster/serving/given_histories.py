"""A history that the caller gives: texts of interactions, or items with ratings and times, as vectors.

An item stands for what users said of it: the mean of the cache's vectors of its interactions, the last ITEM_ROWS of
them, or, where nobody has one, the mean of its personas. Items rated below the `min_rating` of the cache are left
out, as they are in profiles.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl

from personarank_dagster.core.profiles import FloatArray, unit_rows
from personarank_dagster.ranking.ranker import VectorTable

ITEM_ROWS = 256


class Interaction(NamedTuple):
    """An item that somebody has used; `time` is any number that grows, for all of a history or for none."""

    item_id: str
    rating: float | None = None
    time: float | None = None


@dataclass(frozen=True)
class GivenProfile:
    """Vectors of what counts of a history, oldest first, and their places in it as it was given."""

    vectors: FloatArray
    places: list[int]


@dataclass(frozen=True)
class HistoryReader:
    """What turns a history into vectors of the space of both caches."""

    interactions: VectorTable
    personas: VectorTable
    k: int
    min_rating: float
    encode: Callable[[list[str]], FloatArray]

    def read(self, history: Sequence[str | Interaction]) -> GivenProfile:
        """The last k of what counts: texts, and known items that were not disliked."""
        liked = [place for place, one in enumerate(history) if self._is_liked(one)]
        if all(isinstance(one, Interaction) and one.time is not None for one in history):
            liked.sort(key=lambda place: _time(history[place]))
        known = self._item_vectors([one.item_id for one in history if isinstance(one, Interaction)])
        usable = [place for place in liked if isinstance(one := history[place], str) or one.item_id in known]
        places = usable[-self.k :]
        texts = [one for place in places if isinstance(one := history[place], str)]
        encoded = iter(self.encode(texts) if texts else ())
        vectors = [
            next(encoded) if isinstance(one := history[place], str) else known[one.item_id] for place in places
        ]
        return GivenProfile(np.array(vectors, np.float32) if vectors else np.zeros((0, 1), np.float32), places)

    def _is_liked(self, one: str | Interaction) -> bool:
        return isinstance(one, str) or one.rating is None or one.rating >= self.min_rating

    def _item_vectors(self, items: list[str]) -> dict[str, FloatArray]:
        """Unit vectors of the items that are known."""
        found = _means(self.interactions, items)
        return _means(self.personas, [item for item in items if item not in found]) | found


def _means(table: VectorTable, items: list[str]) -> dict[str, FloatArray]:
    if not items:
        return {}
    rows = table.index.lazy().filter(pl.col("item_id").is_in(items))
    by_item = rows.group_by("item_id").agg(pl.col("vector_row").tail(ITEM_ROWS)).collect()
    means = {item: table.vectors[own].astype(np.float32).mean(axis=0) for item, own in by_item.rows()}
    return {item: unit_rows(mean[None, :])[0] for item, mean in means.items()}


def _time(one: str | Interaction) -> float:
    return one.time or 0.0 if isinstance(one, Interaction) else 0.0
