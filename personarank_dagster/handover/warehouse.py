"""Lists as parquet, in the layout that warehouses and feature stores read: hive partitions by dataset and version.

    <folder>/dataset=<dataset>/version=<version>/lists.parquet

A version is one file, which appears by a rename, or in a bucket by one request: readers see it whole or not at all.
The newest version is the current one, since one that was gone back from is removed.
"""

import shutil
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
from upath import UPath

from personarank_dagster.configuration.export_settings import ParquetExport
from personarank_dagster.configuration.out_roots import is_address
from personarank_dagster.storage.bucket import bucket_path, requests_to
from personarank_dagster.storage.disk import storage_errors
from personarank_dagster.storage.tables import Table

FILE = "lists.parquet"
TEMPORARY = ".unfinished-"
# What no flat table holds.
NESTED = ("interactions",)


@dataclass(frozen=True)
class Written:
    """A file of lists, and the versions that were removed."""

    path: str
    rows: int
    bytes: int
    removed: list[str]


def write_version(
    lists: Table, settings: ParquetExport, *, dataset: str, version: str, published: datetime, scratch: Path
) -> Written:
    """Write the lists of a version, and remove versions beyond `keep`, and later ones. Raises StorageError."""
    home = _home(settings.folder) / f"dataset={dataset}"
    with storage_errors(home):
        scratch.mkdir(parents=True, exist_ok=True)
        unfinished = scratch / f"{TEMPORARY}{uuid.uuid4().hex[:8]}.parquet"
        try:
            _flat(lists, published).sink_parquet(unfinished)
            rows, size = pl.scan_parquet(unfinished).select(pl.len()).collect().item(), unfinished.stat().st_size
            target = home / f"version={version}" / FILE
            _take_over(unfinished, target)
        finally:
            unfinished.unlink(missing_ok=True)
        return Written(str(target), rows, size, _sweep(home, version, settings.keep))


def _flat(lists: Table, published: datetime) -> pl.LazyFrame:
    # Dataset and version stand in the path alone: readers of hive partitions refuse a file that has them too.
    columns = lists.lazy().drop(NESTED, strict=False)
    return columns.with_columns(event_timestamp=pl.lit(published).cast(pl.Datetime("us", "UTC")))


def _home(folder: str) -> Path | UPath:
    return bucket_path(folder) if is_address(folder) else Path(folder)


def _take_over(unfinished: Path, target: Any) -> None:
    if isinstance(target, Path):
        target.parent.mkdir(parents=True, exist_ok=True)
        # Beside the target first: scratch may be on another disk.
        beside = target.with_name(unfinished.name)
        shutil.copyfile(unfinished, beside)
        beside.replace(target)
        return
    with requests_to(target):
        target.fs.put_file(str(unfinished), target.path)


def _sweep(home: Any, current: str, keep: int) -> list[str]:
    """Remove all versions but the current one and those before it, `keep` in all, and what was left unfinished."""
    names = sorted(path.name.removeprefix("version=") for path in home.iterdir() if path.name.startswith("version="))
    removed = _removable(names, current, keep)
    for name in removed:
        _remove(home / f"version={name}")
    for path in (home / f"version={current}").glob(f"{TEMPORARY}*"):
        with suppress(FileNotFoundError):
            path.unlink()
    return removed


def _removable(names: Sequence[str], current: str, keep: int) -> list[str]:
    kept = [name for name in names if name <= current][-keep:]
    return [name for name in names if name not in kept]


def _remove(version: Any) -> None:
    if isinstance(version, Path):
        shutil.rmtree(version)
        return
    with requests_to(version):
        version.fs.rm(version.path, recursive=True)
