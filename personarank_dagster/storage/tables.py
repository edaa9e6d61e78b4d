"""Tables as parquet: contract, content hash, the files for people beside them."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from personarank_dagster.core.errors import ContractError, StorageError
from personarank_dagster.core.schemas import Schema

TABLE = "table.parquet"

HASH_ROWS = 1 << 17
# Rows that a reader decompresses at a time.
ROW_GROUP_ROWS = 50_000


# A table in memory, or one that lies in files and may be larger.
Table = pl.DataFrame | pl.LazyFrame


def height(table: Table) -> int:
    """Number of rows; of files, from their footers."""
    return int(table.lazy().select(pl.len()).collect().item())


def footer(path: Path) -> tuple[int, dict[str, str]]:
    """Number of rows and the type of each column of a parquet file, from its end; no row is read."""
    table = pl.scan_parquet(path)
    return height(table), {name: str(dtype) for name, dtype in table.collect_schema().items()}


def pick_columns(name: str, table: Table, columns: Sequence[str]) -> Table:
    """Only these columns; of a lazy table no others are read. Raises StorageError for one that is not there."""
    known = table.lazy().collect_schema().names()
    if unknown := [column for column in columns if column not in known]:
        raise StorageError(f"{name}: has no column {', '.join(unknown)}; it has {', '.join(known)}")
    return table.select(columns)


def check_table(name: str, table: Table, schema: Schema, key: Sequence[str]) -> None:
    """Raise ContractError unless the columns are those of `schema` and the `key`, if any, is unique and not null."""
    columns = dict(table.lazy().collect_schema())
    if columns != schema:
        raise ContractError(f"{name}: expected columns {_columns(schema)}, got {_columns(columns)}")
    if not key:
        return
    keys = table.lazy().select(key).collect()
    if nulls := sum(keys.null_count().row(0)):
        raise ContractError(f"{name}: {', '.join(key)} must not be null, got {nulls} nulls")
    if repeated := keys.height - keys.n_unique():
        example = keys.filter(keys.is_duplicated()).row(0, named=True)
        raise ContractError(
            f"{name}: {', '.join(key)} must be unique, got {repeated} repeated rows such as {example}"
        )


def table_version(table: Table) -> str:
    """Content hash of a table: names, types and rows in order. It holds within one release of polars."""
    digest = hashlib.blake2b(repr(list(table.lazy().collect_schema().items())).encode(), digest_size=16)
    for chunk in _batches(table):
        digest.update(chunk.hash_rows(seed=0).to_numpy().tobytes())
    return digest.hexdigest()


def _batches(table: Table) -> Iterator[pl.DataFrame]:
    if isinstance(table, pl.DataFrame):
        return table.iter_slices(HASH_ROWS)
    return iter(table.collect_batches(chunk_size=HASH_ROWS, maintain_order=True))


def write_table(table: Table, path: Path) -> Path:
    """Write a table as parquet and return the path; rows that lie in files pass through memory in batches."""
    if isinstance(table, pl.LazyFrame):
        table.sink_parquet(path, row_group_size=ROW_GROUP_ROWS)
    else:
        table.write_parquet(path, row_group_size=ROW_GROUP_ROWS)
    return path


def _columns(schema: Schema) -> str:
    return ", ".join(f"{name}: {dtype}" for name, dtype in schema.items())
