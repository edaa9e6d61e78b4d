"""What is done with a shard of candidate lists on a cluster: ranked, or its ground truth placed, or read as lessons.

Everything comes and goes as files of an exchange; through Ray go their names.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
import polars as pl

from personarank_dagster.core.profiles import IntArray
from personarank_dagster.distributed.exchange import Exchange
from personarank_dagster.ranking.blending import Blend, places_by_alpha
from personarank_dagster.ranking.cross_fitting import LearnedBlend, Taught, read_lessons
from personarank_dagster.ranking.ranker import Ranker, blocks
from personarank_dagster.storage.tables import write_table

MEASURED, COUNTS, WEIGHTS = "measured.parquet", "counts.parquet", "weights.json"
# What is read of lists that are only placed or learned from.
PLACED = ("user_id", "item_id", "candidate_rank", "candidate_score")


class ListWork(Protocol):
    """Work on lists, by the actor that has the caches; what it writes has names that begin with `out`."""

    def __call__(self, ranker: Ranker, lists: pl.LazyFrame, exchange: Exchange, out: str) -> None:
        """Do it with all lists of one shard."""


@dataclass(frozen=True)
class Rerank:
    """Reorder lists by a blend that was written."""

    blend: str

    def __call__(self, ranker: Ranker, lists: pl.LazyFrame, exchange: Exchange, out: str) -> None:
        """Write their table."""
        blend = read_blend(exchange, self.blend, lists.select("user_id").unique().collect()["user_id"])
        with exchange.written(part_of(out)) as path:
            write_table(pl.concat(blend.rerank(ranker, block) for block in blocks(lists)), path)


@dataclass(frozen=True)
class Place:
    """Find the places of the ground truth in a file, by each weight of the persona score."""

    ground_truth: str
    alphas: tuple[float, ...]

    def __call__(self, ranker: Ranker, lists: pl.LazyFrame, exchange: Exchange, out: str) -> None:
        """Write users and places."""
        truth = _truth_of(lists, exchange.file(self.ground_truth))
        users, places = places_by_alpha(ranker, lists.select(PLACED), truth, self.alphas)
        columns = {
            f"place {column}": pl.Series(places[:, column], dtype=pl.UInt32) for column in range(places.shape[1])
        }
        with exchange.written(part_of(out)) as path:
            write_table(pl.DataFrame({"user_id": users} | columns), path)


@dataclass(frozen=True)
class Teach:
    """Read lists as lessons; ground truth, and how often each item occurs, are in files."""

    ground_truth: str
    counts: str

    def __call__(self, ranker: Ranker, lists: pl.LazyFrame, exchange: Exchange, out: str) -> None:
        """Write users, lengths of lists, signals, and which pairs are the ground truth."""
        truth, counts = (
            _truth_of(lists, exchange.file(self.ground_truth)),
            pl.read_parquet(exchange.file(self.counts)),
        )
        taught = read_lessons(ranker, lists.select(PLACED), truth, counts)
        for name, values in (("signals", taught.signals), ("is_target", taught.is_target)):
            with exchange.written(array_of(out, name)) as path, path.open("wb") as file:
                np.save(file, values, allow_pickle=False)
        with exchange.written(part_of(out)) as path:
            write_table(pl.DataFrame({"user_id": taught.users, "length": np.diff(taught.offsets)}), path)


def _truth_of(lists: pl.LazyFrame, path: Path) -> pl.DataFrame:
    """The ground truth of the users of some lists."""
    return pl.scan_parquet(path).join(lists.select("user_id"), on="user_id", how="semi").collect()


def read_places(exchange: Exchange, outs: Sequence[str], num_alphas: int) -> tuple[pl.Series, IntArray]:
    """What `Place` wrote of all shards."""
    table = pl.concat(pl.read_parquet(exchange.file(part_of(out))) for out in outs)
    places = table.drop("user_id").cast(pl.Int64).to_numpy().reshape(table.height, num_alphas)
    return table["user_id"], np.ascontiguousarray(places)


def read_taught(exchange: Exchange, outs: Sequence[str]) -> Taught:
    """What `Teach` wrote of all shards."""
    lists = pl.concat(pl.read_parquet(exchange.file(part_of(out))) for out in outs)
    arrays = {
        name: np.concatenate([np.load(exchange.file(array_of(out, name)), allow_pickle=False) for out in outs])
        for name in ("signals", "is_target")
    }
    return Taught(lists["user_id"], np.append(0, lists["length"].to_numpy().cumsum()), **arrays)


def write_blend(blend: Blend | LearnedBlend, exchange: Exchange, name: str) -> None:
    """Write a blend for `read_blend`; numbers keep all their digits."""
    with exchange.written(f"{name}/{MEASURED}") as path:
        blend.measured.alias("user_id").to_frame().write_parquet(path)
    weights: dict[str, Any] = {"serving": blend.serving, "folds": blend.folds, "learned": False}
    if isinstance(blend, LearnedBlend):
        with exchange.written(f"{name}/{COUNTS}") as path:
            blend.counts.write_parquet(path)
        weights = {"serving": blend.serving.tolist(), "folds": blend.folds.tolist(), "learned": True}
    with exchange.written(f"{name}/{WEIGHTS}") as path:
        path.write_bytes(msgspec.json.encode(weights))


def read_blend(exchange: Exchange, name: str, users: pl.Series) -> Blend | LearnedBlend:
    """The blend, as far as it is that of these users."""
    weights = msgspec.json.decode(exchange.file(f"{name}/{WEIGHTS}").read_bytes())
    measured = pl.scan_parquet(exchange.file(f"{name}/{MEASURED}")).filter(pl.col("user_id").is_in(users.implode()))
    of_users = measured.collect()["user_id"]
    if not weights["learned"]:
        return Blend(weights["serving"], tuple(weights["folds"]), measured=of_users)
    serving, folds = np.array(weights["serving"]), np.array(weights["folds"])
    return LearnedBlend(serving, folds, of_users, pl.read_parquet(exchange.file(f"{name}/{COUNTS}")))


def part_of(out: str) -> str:
    """The table of a shard."""
    return f"{out}.parquet"


def array_of(out: str, name: str) -> str:
    """An array of a shard."""
    return f"{out}.{name}.npy"
