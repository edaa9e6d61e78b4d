"""What is done with a shard of candidate lists on a cluster: ranked, or its ground truth placed, or read as lessons.

Everything comes and goes as files in a folder that all nodes share; through Ray goes where they are.
"""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
import polars as pl

from personarank_dagster.core.profiles import IntArray
from personarank_dagster.ranking.blending import Blend, places_by_alpha
from personarank_dagster.ranking.cross_fitting import LearnedBlend, Taught, read_lessons
from personarank_dagster.ranking.ranker import Ranker, blocks
from personarank_dagster.storage.tables import write_table

MEASURED, COUNTS, WEIGHTS = "measured.parquet", "counts.parquet", "weights.json"
# What is read of lists that are only placed or learned from.
PLACED = ("user_id", "item_id", "candidate_rank", "candidate_score")


class ListWork(Protocol):
    """Work on lists, by the actor that has the caches; what it writes has names that begin with `out`."""

    def __call__(self, ranker: Ranker, lists: pl.LazyFrame, out: Path) -> None:
        """Do it with all lists of one shard."""


@dataclass(frozen=True)
class Rerank:
    """Reorder lists by the blend that is written in a folder."""

    blend: Path

    def __call__(self, ranker: Ranker, lists: pl.LazyFrame, out: Path) -> None:
        """Write their table."""
        blend = read_blend(self.blend, lists.select("user_id").unique().collect()["user_id"])
        with _whole(part_of(out)) as path:
            write_table(pl.concat(blend.rerank(ranker, block) for block in blocks(lists)), path)


@dataclass(frozen=True)
class Place:
    """Find the places of the ground truth in a file, by each weight of the persona score."""

    ground_truth: Path
    alphas: tuple[float, ...]

    def __call__(self, ranker: Ranker, lists: pl.LazyFrame, out: Path) -> None:
        """Write users and places."""
        users, places = places_by_alpha(ranker, lists.select(PLACED), pl.read_parquet(self.ground_truth), self.alphas)
        columns = {
            f"place {column}": pl.Series(places[:, column], dtype=pl.UInt32) for column in range(places.shape[1])
        }
        with _whole(part_of(out)) as path:
            write_table(pl.DataFrame({"user_id": users} | columns), path)


@dataclass(frozen=True)
class Teach:
    """Read lists as lessons; ground truth, and how often each item occurs, are in files."""

    ground_truth: Path
    counts: Path

    def __call__(self, ranker: Ranker, lists: pl.LazyFrame, out: Path) -> None:
        """Write users, lengths of lists, signals, and which pairs are the ground truth."""
        truth, counts = pl.read_parquet(self.ground_truth), pl.read_parquet(self.counts)
        taught = read_lessons(ranker, lists.select(PLACED), truth, counts)
        for name, values in (("signals", taught.signals), ("is_target", taught.is_target)):
            with _whole(array_of(out, name)) as path:
                np.save(path, values, allow_pickle=False)
        with _whole(part_of(out)) as path:
            write_table(pl.DataFrame({"user_id": taught.users, "length": np.diff(taught.offsets)}), path)


def read_places(outs: Sequence[Path], num_alphas: int) -> tuple[pl.Series, IntArray]:
    """What `Place` wrote of all shards."""
    table = pl.concat(pl.read_parquet(part_of(out)) for out in outs)
    places = table.drop("user_id").cast(pl.Int64).to_numpy().reshape(table.height, num_alphas)
    return table["user_id"], np.ascontiguousarray(places)


def read_taught(outs: Sequence[Path]) -> Taught:
    """What `Teach` wrote of all shards."""
    lists = pl.concat(pl.read_parquet(part_of(out)) for out in outs)
    arrays = {
        name: np.concatenate([np.load(array_of(out, name), allow_pickle=False) for out in outs])
        for name in ("signals", "is_target")
    }
    return Taught(lists["user_id"], np.append(0, lists["length"].to_numpy().cumsum()), **arrays)


def write_blend(blend: Blend | LearnedBlend, folder: Path) -> None:
    """Write a blend for `read_blend`; numbers keep all their digits."""
    blend.measured.alias("user_id").to_frame().write_parquet(folder / MEASURED)
    weights: dict[str, Any] = {"serving": blend.serving, "folds": blend.folds}
    if isinstance(blend, LearnedBlend):
        blend.counts.write_parquet(folder / COUNTS)
        weights = {"serving": blend.serving.tolist(), "folds": blend.folds.tolist()}
    (folder / WEIGHTS).write_bytes(msgspec.json.encode(weights))


def read_blend(folder: Path, users: pl.Series) -> Blend | LearnedBlend:
    """The blend, as far as it is that of these users."""
    weights = msgspec.json.decode((folder / WEIGHTS).read_bytes())
    measured = (
        pl.scan_parquet(folder / MEASURED).filter(pl.col("user_id").is_in(users.implode())).collect()["user_id"]
    )
    if not (folder / COUNTS).exists():
        return Blend(weights["serving"], tuple(weights["folds"]), measured=measured)
    serving, folds = np.array(weights["serving"]), np.array(weights["folds"])
    return LearnedBlend(serving, folds, measured, pl.read_parquet(folder / COUNTS))


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A file that takes its name when it is whole: an actor that was given up may write it still."""
    temporary = path.with_stem(f".{uuid.uuid4().hex[:8]}-{path.stem}")
    yield temporary
    temporary.replace(path)


def part_of(out: Path) -> Path:
    """The table of a shard."""
    return out.with_name(f"{out.name}.parquet")


def array_of(out: Path, name: str) -> Path:
    """An array of a shard."""
    return out.with_name(f"{out.name}.{name}.npy")
