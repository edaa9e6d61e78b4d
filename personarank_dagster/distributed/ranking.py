"""Rank lists on a cluster: actors with both caches, a shard of lists at a time; the driver reads what they wrote.

Shards are rows of the table of lists, in its order, so that their results are joined by putting one behind the other.
"""

import uuid
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import polars as pl

from personarank_dagster.core.profiles import IntArray
from personarank_dagster.distributed.cluster import Cluster
from personarank_dagster.distributed.exchange import Exchange
from personarank_dagster.distributed.list_work import (
    ListWork,
    Place,
    Rerank,
    Teach,
    part_of,
    read_places,
    read_taught,
    write_blend,
)
from personarank_dagster.distributed.pool import Pool
from personarank_dagster.ranking.controls import with_item_texts
from personarank_dagster.ranking.cross_fitting import Taught
from personarank_dagster.ranking.elsewhere import lists_in
from personarank_dagster.ranking.ranker import BLOCK_PAIRS, Ranker, VectorTable
from personarank_dagster.storage.scratch import ScratchFolder
from personarank_dagster.storage.tables import height
from personarank_dagster.vectors.embeddings import read_embeddings

# Rows of a shard; as many as are ranked at a time here, and some shards for each actor.
MIN_PAIRS, SHARDS_PER_ACTOR = 4_096, 4


@dataclass(frozen=True)
class Recipe:
    """What a ranker is made from: folders of caches, and what is changed of it for a control."""

    interactions: Path
    personas: Path
    k: int
    gamma: float
    exchanged_by: int | None = None
    by_item_texts: bool = False


@dataclass(frozen=True)
class ListShard:
    """Rows begin:end of a table of lists, by which ranker, what is to be done, and how its results are called."""

    lists: Path
    begin: int
    end: int
    recipe: Recipe
    work: ListWork
    out: str


class ListWorker:
    """Works on shards, with the rankers that they name."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange.on_node()
        self.ranker, self._opened = cache(self._ranker), cache(self._open)

    def __call__(self, shard: ListShard, again: bool) -> None:
        """Do the work of a shard; one that is repeated writes the same again."""
        lists = lists_in(pl.scan_parquet(self.exchange.version(shard.lists)), shard.begin, shard.end)
        shard.work(self.ranker(shard.recipe), lists.lazy(), self.exchange, shard.out)

    def _ranker(self, recipe: Recipe) -> Ranker:
        interactions, personas = self._opened(recipe.interactions, recipe.personas)
        ranker = Ranker.of(interactions, personas, k=recipe.k, gamma=recipe.gamma)
        if recipe.exchanged_by is not None:
            ranker = ranker.with_exchanged_profiles(recipe.exchanged_by)
        return with_item_texts(ranker) if recipe.by_item_texts else ranker

    def _open(self, interactions: Path, personas: Path) -> tuple[VectorTable, VectorTable]:
        """The personas, of which lists need all, from the disk of the node; of the interactions each its own."""
        own = read_embeddings(self.exchange.version(interactions))
        return own, self.exchange.opened(personas, read_embeddings)


@contextmanager
def ranked_on_ray(
    cluster: Cluster, lists: Path, recipe: Recipe, exchange: Exchange, scratch: ScratchFolder
) -> Iterator["ListsOnRay"]:
    """The lists of a table, with actors that end with the block. The exchange is in the scratch folder."""
    with Pool[ListShard, None](cluster, partial(ListWorker, exchange)) as pool:
        yield ListsOnRay(pool, lists, recipe, exchange, scratch)


@dataclass(frozen=True)
class ListsOnRay:
    """The lists of one table, ranked by a pool of actors."""

    pool: Pool[ListShard, None]
    lists: Path
    recipe: Recipe
    exchange: Exchange
    scratch: ScratchFolder

    def rerank(self, blend: Any) -> pl.LazyFrame:
        """The table of all lists in their new order, in parts."""
        name = _new("blend")
        write_blend(blend, self.exchange, name)
        table = pl.scan_parquet([self.exchange.file(part_of(out)) for out in self._done(Rerank(name))])
        # The parts stay as long as the table does.
        weakref.finalize(table, bool, self.scratch)
        return table

    def places(self, ground_truth: pl.DataFrame, alphas: tuple[float, ...]) -> tuple[pl.Series, IntArray]:
        """Users with both a list and a ground truth, and the places of its best item."""
        return read_places(self.exchange, self._done(Place(self._written(ground_truth), alphas)), len(alphas))

    def lessons(self, ground_truth: pl.DataFrame, counts: pl.DataFrame) -> Taught:
        """The lists of users with a ground truth, as signals."""
        return read_taught(self.exchange, self._done(Teach(self._written(ground_truth), self._written(counts))))

    def with_exchanged_profiles(self, seed: int) -> "ListsOnRay":
        """The same, every user with the profile of another one."""
        return replace(self, recipe=replace(self.recipe, exchanged_by=seed))

    def with_item_texts(self) -> "ListsOnRay":
        """The same, every item with the mean of its interaction texts as its only persona."""
        return replace(self, recipe=replace(self.recipe, by_item_texts=True))

    def _done(self, work: ListWork) -> list[str]:
        """Have all shards worked on; what their results are called, in the order of the lists."""
        name, rows = _new("parts"), height(pl.scan_parquet(self.lists))
        size = max(MIN_PAIRS, min(BLOCK_PAIRS, -(-rows // (self.pool.room() * SHARDS_PER_ACTOR))))
        shards = [
            ListShard(self.lists, begin, min(begin + size, rows), self.recipe, work, f"{name}/{place:06}")
            for place, begin in enumerate(range(0, max(rows, 1), size))
        ]
        for _ in self.pool.results(shards):
            pass
        return [shard.out for shard in shards]

    def _written(self, table: pl.DataFrame) -> str:
        name = f"{_new('table')}.parquet"
        with self.exchange.written(name) as path:
            table.write_parquet(path)
        return name


def _new(kind: str) -> str:
    """A name that nothing of the exchange has."""
    return f"{kind}-{uuid.uuid4().hex[:8]}"
