"""The seam for lists that are ranked elsewhere than in this process, and the shards in which they are dealt out."""

from typing import Any, Protocol

import polars as pl

from personarank_dagster.core.profiles import IntArray

# Rows that are read at a time to find the end of a list.
TAIL_ROWS = 4_096


class Elsewhere(Protocol):
    """Ranks all lists of one table by the same functions as here, by the caches and the rules of a `Ranker`."""

    def rerank(self, blend: Any) -> pl.LazyFrame:
        """As `blend.rerank` of every block."""

    def places(self, ground_truth: pl.DataFrame, alphas: tuple[float, ...]) -> tuple[pl.Series, IntArray]:
        """As `blending.places_by_alpha`."""

    def lessons(self, ground_truth: pl.DataFrame, counts: pl.DataFrame) -> Any:
        """As `cross_fitting.read_lessons`."""

    def with_exchanged_profiles(self, seed: int) -> "Elsewhere":
        """As `Ranker.with_exchanged_profiles`."""

    def with_item_texts(self) -> "Elsewhere":
        """As `controls.with_item_texts`."""


def lists_in(table: pl.LazyFrame, begin: int, end: int) -> pl.DataFrame:
    """The lists that begin among the rows begin:end, whole; a user's rows are together."""
    first = max(begin - 1, 0)
    rows = table.slice(first, end - first).collect()
    own = rows.filter(pl.col("user_id").rle_id() > 0) if begin else rows
    if own.height:
        own = pl.concat([own, *_rest(table, end, own["user_id"][-1])])
    return own.rechunk()


def _rest(table: pl.LazyFrame, begin: int, user: str) -> list[pl.DataFrame]:
    """The rows of a user from one on."""
    found = []
    while True:
        rows = table.slice(begin, TAIL_ROWS).collect()
        others = (rows["user_id"] != user).arg_max() if (rows["user_id"] != user).any() else None
        found.append(rows[:others])
        if others is not None or rows.height < TAIL_ROWS:
            return found
        begin += TAIL_ROWS
