"""Read raw files line by line into typed rows; a bad line stops with file, line, field, rule and value."""

import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
import polars as pl

from personarank_dagster.core.errors import InputError
from personarank_dagster.storage.rows import RowError, shorten

RowT = TypeVar("RowT")


class Located(NamedTuple):
    """Where a row stands, as errors name it."""

    path: Path
    line: int

    def error(self, error: RowError) -> InputError:
        """The InputError of a rule that this row breaks."""
        return InputError(f"{self.path} line {self.line}, field {error.path}: {error}")


def read_rows(path: Path, row_type: type[RowT]) -> Iterator[tuple[Located, RowT]]:
    """Rows of a .jsonl, .jsonl.gz or .parquet file with their places; blank lines are passed over.

    Raises InputError at the first line that is not a `row_type`, and for a file that cannot be read.
    """
    if not path.is_file():
        found = "a directory" if path.is_dir() else "no such file" if not path.exists() else "not a regular file"
        raise InputError(f"{path}: expected a .jsonl, .jsonl.gz or .parquet file, got {found}")
    if path.suffix == ".parquet":
        return _parquet_rows(path, row_type)
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        return _json_rows(path, row_type)
    raise InputError(f"{path}: expected a .jsonl, .jsonl.gz or .parquet file, got {path.suffix or 'no'} ending")


def _json_rows(path: Path, row_type: type[RowT]) -> Iterator[tuple[Located, RowT]]:
    decoder = msgspec.json.Decoder(row_type)
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            row = decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{path} line {number}{_explain(error, line)}") from None
        yield Located(path, number), row


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield from file
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error


def _parquet_rows(path: Path, row_type: type[RowT]) -> Iterator[tuple[Located, RowT]]:
    try:
        rows = pl.read_parquet(path).iter_rows(named=True)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path}: cannot be read as parquet: {error}") from error
    for number, values in enumerate(rows, start=1):
        try:
            row = msgspec.convert(values, row_type)
        except msgspec.ValidationError as error:
            raise InputError(f"{path} row {number}{_explain(error, values)}") from None
        yield Located(path, number), row


_AT = re.compile(r" - at `\$\.?(?P<path>.*?)`$")


def _explain(error: Exception, source: bytes | dict[str, Any]) -> str:
    """`, field reviews[3].rating: expected `float`, got `str` "five"`, or what is wrong with the JSON itself."""
    if not isinstance(error, msgspec.ValidationError):
        return f": not valid JSON: {error}"
    message = str(error)
    found = _AT.search(message)
    rule = _AT.sub("", message)
    rule = rule[:1].lower() + rule[1:]
    if not found:
        return f": {rule}, got {shorten(_parsed(source))}"
    value = _value_at(_parsed(source), found["path"])
    return f", field {found['path']}: {rule}, got {shorten(value)}"


def _parsed(source: bytes | dict[str, Any]) -> Any:
    return msgspec.json.decode(source) if isinstance(source, bytes) else source


def _value_at(value: Any, path: str) -> Any:
    for name, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", path):
        if name == "..." or (name and not isinstance(value, dict)):
            return value
        value = value.get(name) if name else value[int(index)]
    return value
