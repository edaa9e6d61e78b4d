"""Sort more rows than memory holds: sorted runs on disk, then ranges of the key, each of which fits."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import polars as pl

from personarank_dagster.storage.scratch import ScratchFolder

# Bytes of rows in memory before they become a run; a range of the key is about as large.
RUN_BYTES = 256 << 20

# Small row groups, so that a range reads little of each run.
ROW_GROUP_ROWS = 20_000

# Each run gives every so many rows as a sample of its keys.
SAMPLE_EVERY = 500


@dataclass(frozen=True)
class KeyRange:
    """Keys above `lower` up to `upper`; None is no limit."""

    lower: str | None
    upper: str | None

    def holds(self, key: str) -> pl.Expr:
        """Whether the column is within."""
        above = pl.lit(True) if self.lower is None else pl.col(key) > self.lower
        return above if self.upper is None else above & (pl.col(key) <= self.upper)


@dataclass
class Runs:
    """Sorted runs on disk, the bytes of their rows, and a sample of their keys."""

    paths: list[Path] = field(default_factory=list)
    num_bytes: int = 0
    sample: list[pl.Series] = field(default_factory=list)

    def add(self, other: "Runs") -> None:
        """Add the runs of rows that come after these."""
        self.paths += other.paths
        self.num_bytes += other.num_bytes
        self.sample += other.sample

    def ranges(self, run_bytes: int = RUN_BYTES) -> Iterator[KeyRange]:
        """Ranges of the key that hold all rows, each about as many bytes; one if there is no key."""
        sample = pl.concat(self.sample).sort()
        number = min(len(sample), -(-self.num_bytes // run_bytes))
        bounds: list[str] = []
        if number:
            bounds = sample.gather_every(-(-len(sample) // number), offset=len(sample) // number).to_list()
        for lower, upper in pairwise([None, *dict.fromkeys(bounds), None]):
            yield KeyRange(lower, upper)


def rows_within(runs: list[Path], keys: KeyRange, key: str, then: str) -> pl.DataFrame:
    """The rows of a range, sorted; runs are in the order they were written, so equal rows stay in that order."""
    return pl.scan_parquet(runs).filter(keys.holds(key)).collect().sort(key, then, maintain_order=True)


class ExternalSort:
    """Rows in, rows sorted by (`key`, `then`) out; rows that are equal in both stay in the order they came.

    Rows beyond `run_bytes` go to a folder under `scratch_base`; without one all stay in memory.
    """

    def __init__(self, key: str, then: str, scratch_base: Path | None, run_bytes: int = RUN_BYTES) -> None:
        self.key, self.then = key, then
        self.run_bytes = run_bytes
        self.num_rows = 0
        # Where rows lie that are not in memory; None while all are.
        self.scratch: ScratchFolder | None = None
        self._scratch_base = scratch_base
        self._tables: list[pl.DataFrame] = []
        self._num_bytes = 0
        self._runs = Runs()

    def add(self, table: pl.DataFrame) -> None:
        """Add rows; all tables have the same columns."""
        self._tables.append(table)
        self.num_rows += table.height
        self._num_bytes += int(table.estimated_size())
        if self._scratch_base is not None and self._num_bytes >= self.run_bytes:
            self._write_run(self._scratch_base)

    def parts(self) -> Iterator[pl.DataFrame]:
        """All rows, sorted, in parts; no key is in two of them. One part if nothing was spilled."""
        if self.scratch is None or self._scratch_base is None:
            yield self._sorted()
            return
        if self._tables:
            self._write_run(self._scratch_base)
        for keys in self._runs.ranges(self.run_bytes):
            yield rows_within(self._runs.paths, keys, self.key, self.then)

    def moved_runs(self, folder: Path, name: str) -> Runs:
        """All rows as runs in a folder, by names that begin so, for whoever sorts the ranges."""
        if self._tables:
            self._write_run(self._scratch_base or folder)
        runs, self._runs = self._runs, Runs()
        runs.paths = [path.replace(folder / f"{name}-{path.name}") for path in runs.paths]
        return runs

    def _sorted(self) -> pl.DataFrame:
        table = pl.concat(self._tables)
        self._tables, self._num_bytes = [], 0
        return table.sort(self.key, self.then, maintain_order=True)

    def _write_run(self, scratch_base: Path) -> None:
        self.scratch = self.scratch or ScratchFolder(scratch_base)
        num_bytes = self._num_bytes
        run = self._sorted()
        path = self.scratch.path / f"run-{len(self._runs.paths):05}.parquet"
        run.write_parquet(path, compression="lz4", row_group_size=ROW_GROUP_ROWS)
        self._runs.add(Runs([path], num_bytes, [run[self.key].gather_every(SAMPLE_EVERY)]))
