"""Parquet files as lines of JSON, so that every raw file is under the same rules; within the same limits, too."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from personarank_dagster.core.errors import InputError, reason_of
from personarank_dagster.raw.bad_lines import ReadRules
from personarank_dagster.raw.blocks import LineTooLongError, Unpacking
from personarank_dagster.raw.parquet.pages import unpacked_bytes
from personarank_dagster.raw.parquet.types import Columns, ColumnTypes

PARQUET_ROWS = 1_000

REMEDY = "raise the limit if the file is what it should be, or write it anew (not as DELTA_BYTE_ARRAY)"

# Rows of more than this are made objects of in smaller pieces: objects take several times as much.
PIECE_BYTES = 4 << 20


def parquet_blocks(path: Path, row_type: Any, rules: ReadRules) -> Iterator[bytes]:
    """Blocks of lines with the columns that are read; numbers exact, times as ISO text.

    Raises InputError for columns of another type than lines have, and for files that unpack to too much.
    """
    unpacking, packed = Unpacking(path, rules.max_gzip_ratio, REMEDY), path.stat().st_size
    try:
        rows = pl.scan_parquet(path, glob=False, hive_partitioning=False)
        columns = _columns(path, rows.collect_schema(), row_type)
        unpacking.check(unpacked_bytes(path, set(columns)), of=packed)
        selected = rows.select(pl.col(name).cast(dtype) for name, dtype in columns.items())
        unpacked = 0
        for batch in selected.collect_batches(chunk_size=PARQUET_ROWS, maintain_order=True):
            for piece in _pieces(batch, rules.max_line_bytes):
                # Texts of a dictionary count for each row here.
                unpacked += int(piece.estimated_size())
                unpacking.check(unpacked, of=packed)
                yield _lines(piece)
    # polars panics at some damage.
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise InputError(
            f"{path}: cannot be read as parquet: {reason_of(error).removeprefix('parquet: ')}; write it again"
        ) from error


def _columns(path: Path, schema: pl.Schema, row_type: Any) -> Columns:
    types = ColumnTypes()
    columns = types.read_as(schema, row_type)
    if types.problems:
        raise InputError("\n".join(f"{path}, {problem}" for problem in types.problems))
    return columns


def _pieces(rows: pl.DataFrame, max_line_bytes: int) -> Iterator[pl.DataFrame]:
    """The rows in pieces of bounded size. Raises LineTooLongError at a row over the limit."""
    size = rows.estimated_size()
    if size <= min(PIECE_BYTES, max_line_bytes):
        yield rows
    elif rows.height > 1:
        half = rows.height // 2
        yield from _pieces(rows[:half], max_line_bytes)
        yield from _pieces(rows[half:], max_line_bytes)
    elif size > max_line_bytes:
        raise LineTooLongError
    else:
        yield rows


_ENCODER = msgspec.json.Encoder(decimal_format="number")


def _lines(rows: pl.DataFrame) -> bytes:
    """A line a row; NaN and infinite numbers as they are called in JSON that is none, so that errors name them."""
    if not any(map(_has_endless, rows)):
        return _ENCODER.encode_lines(rows.to_dicts())
    return "".join(json.dumps(row, ensure_ascii=False, default=float) + "\n" for row in rows.to_dicts()).encode()


def _has_endless(values: pl.Series) -> bool:
    if isinstance(values.dtype, pl.List | pl.Array):
        return _has_endless(values.explode())
    if isinstance(values.dtype, pl.Struct):
        return any(_has_endless(values.struct.field(field.name)) for field in values.dtype.fields)
    return values.dtype.is_float() and not values.is_finite().all()
