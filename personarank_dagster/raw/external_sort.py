"""Sort more rows than memory holds: sorted runs on disk, then ranges of the key, each of which fits."""

from collections.abc import Iterator
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
        self._runs: list[Path] = []
        self._run_bytes_total = 0
        self._sample: list[pl.Series] = []

    def add(self, table: pl.DataFrame) -> None:
        """Add rows; all tables have the same columns."""
        self._tables.append(table)
        self.num_rows += table.height
        self._num_bytes += int(table.estimated_size())
        if self._scratch_base is not None and self._num_bytes >= self.run_bytes:
            self.scratch = self.scratch or ScratchFolder(self._scratch_base)
            self._write_run(self.scratch.path)

    def parts(self) -> Iterator[pl.DataFrame]:
        """All rows, sorted, in parts; no key is in two of them. One part if nothing was spilled."""
        if self.scratch is None:
            yield self._sorted()
            return
        if self._tables:
            self._write_run(self.scratch.path)
        for lower, upper in self._ranges():
            within = pl.lit(True)
            if lower is not None:
                within &= pl.col(self.key) > lower
            if upper is not None:
                within &= pl.col(self.key) <= upper
            # Runs are read in the order they were written, so a stable sort keeps the order of equal rows.
            yield pl.scan_parquet(self._runs).filter(within).collect().sort(self.key, self.then, maintain_order=True)

    def _sorted(self) -> pl.DataFrame:
        table = pl.concat(self._tables)
        self._tables, self._num_bytes = [], 0
        return table.sort(self.key, self.then, maintain_order=True)

    def _write_run(self, folder: Path) -> None:
        self._run_bytes_total += self._num_bytes
        run = self._sorted()
        path = folder / f"run-{len(self._runs):05}.parquet"
        run.write_parquet(path, compression="lz4", row_group_size=ROW_GROUP_ROWS)
        self._runs.append(path)
        self._sample.append(run[self.key].gather_every(SAMPLE_EVERY))

    def _ranges(self) -> Iterator[tuple[str | None, str | None]]:
        sample = pl.concat(self._sample).sort()
        num_ranges = -(-self._run_bytes_total // self.run_bytes)
        bounds = sample.gather_every(-(-len(sample) // num_ranges), offset=len(sample) // num_ranges)
        limits = [None, *bounds.unique(maintain_order=True), None]
        yield from pairwise(limits)
