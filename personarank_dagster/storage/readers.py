"""Read raw files line by line into typed rows; every line is kept, or named with field, rule and value."""

import gzip
import json
import os
import re
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, TypeVar

import msgspec
import polars as pl

from personarank_dagster.core.errors import InputError
from personarank_dagster.storage.rows import HistoryRow, RowError, shorten

RowT = TypeVar("RowT")

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

# Below this a file is never called an exploding archive: small files of equal lines pack well.
SMALL_UNPACKED_BYTES = 64 << 20


@dataclass(frozen=True)
class ReadRules:
    """What to do with bad lines, and how much a file may ask for.

    fail: read to the end, then raise with the first places. quarantine: set bad lines aside, but raise if they are
    more than `max_bad_share` of all lines. A line over `max_line_bytes`, or a gzip file that unpacks to more than
    `max_gzip_ratio` times its size, always raises.
    """

    on_bad_row: Literal["fail", "quarantine"] = "fail"
    max_bad_share: float = 0.01
    max_line_bytes: int = 64 << 20
    max_gzip_ratio: int = 200


@dataclass(frozen=True)
class BadLine:
    """A line that breaks a rule: where it stands, why, and what it holds."""

    path: Path
    line: int
    reason: str
    content: bytes

    def __str__(self) -> str:
        return f"{self.path} line {self.line}{self.reason}"


@dataclass(frozen=True)
class RawLine:
    """A line of a file, or a row of a parquet file, before it is decoded."""

    path: Path
    number: int
    content: bytes

    def bad(self, error: RowError) -> BadLine:
        """The line with the rule that it breaks."""
        return BadLine(self.path, self.number, f", field {error.path}: {error}", self.content)


def read_rows(path: Path, row_type: type[RowT], rules: ReadRules) -> Iterator[tuple[RawLine, RowT | BadLine]]:
    """Lines of a .jsonl, .jsonl.gz or .parquet file, each with its row or with what is wrong; blank lines are not.

    Raises InputError for a file that cannot be read, that changes meanwhile, or that asks for too much.
    """
    with _unchanged(path):
        if path.suffix == ".parquet":
            yield from _parquet_rows(path, row_type)
        else:
            decoder: msgspec.json.Decoder[RowT] = msgspec.json.Decoder(row_type)
            for line in _lines(path, rules):
                row = _decode(line, decoder)
                yield line, row


def check_share(path: Path, bad: list[BadLine], num_lines: int, rules: ReadRules) -> None:
    """Raise InputError if these bad lines of a file stop the run: in `fail` any, in `quarantine` too many."""
    if not bad:
        return
    if rules.on_bad_row == "quarantine" and len(bad) <= rules.max_bad_share * num_lines:
        return
    remedy = (
        "fix the line or set on_bad_row: quarantine"
        if rules.on_bad_row == "fail"
        else f"more than max_bad_share {rules.max_bad_share} of {num_lines} lines"
    )
    if len(bad) == 1:
        raise InputError(f"{bad[0]}; {remedy}")
    rules_broken = {line.reason.split(", got ")[0] for line in bad}
    if len(bad) == num_lines and len(rules_broken) == 1:
        raise InputError(f"{path}: every line{rules_broken.pop()}; is it the right file?")
    places = "\n".join(f"  {line}" for line in bad[:20])
    raise InputError(f"{path}: {len(bad)} bad lines of {num_lines}; {remedy}\n{places}")


@contextmanager
def _unchanged(path: Path) -> Iterator[None]:
    """Raise InputError unless the path is a regular file of a known kind that stays as it is inside the block."""
    before = _stamp(path)
    if not path.name.endswith((".jsonl", ".jsonl.gz", ".parquet")):
        raise InputError(f"{path}: expected a .jsonl, .jsonl.gz or .parquet file, got {path.suffix or 'no'} ending")
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    if _stamp(path) != before:
        raise InputError(f"{path}: changed while it was read; run again when it is complete")


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        found = os.stat(path)
    except OSError as error:
        raise InputError(f"{path}: expected a .jsonl, .jsonl.gz or .parquet file, got no such file") from error
    if not stat.S_ISREG(found.st_mode):
        kind = "a directory" if stat.S_ISDIR(found.st_mode) else "not a regular file"
        raise InputError(f"{path}: expected a .jsonl, .jsonl.gz or .parquet file, got {kind}")
    return found.st_size, found.st_mtime_ns, found.st_ino


def _lines(path: Path, rules: ReadRules) -> Iterator[RawLine]:
    with path.open("rb") as packed, gzip.open(packed) if path.suffix == ".gz" else packed as file:
        number = unpacked = 0
        while line := file.readline(rules.max_line_bytes + 1):
            number += 1
            unpacked += len(line)
            if len(line) > rules.max_line_bytes:
                limit = f"max_line_mb {rules.max_line_bytes >> 20}"
                raise InputError(f"{path} line {number}: is longer than {limit}; split it or raise the limit")
            if file is not packed:
                _check_ratio(path, packed, unpacked, rules)
            if line.strip():
                yield RawLine(path, number, line)


def _check_ratio(path: Path, packed: IO[bytes], unpacked: int, rules: ReadRules) -> None:
    if unpacked > SMALL_UNPACKED_BYTES and unpacked > rules.max_gzip_ratio * packed.tell():
        raise InputError(
            f"{path}: unpacks to more than max_gzip_ratio {rules.max_gzip_ratio} times its size; "
            "raise the limit if the file is what it should be"
        )


def _decode(line: RawLine, decoder: msgspec.json.Decoder[RowT]) -> RowT | BadLine:
    try:
        if line.number == 1 and line.content.startswith(BYTE_ORDER_MARK):
            raise ValueError("the file starts with a byte order mark; save it as UTF-8 without one")
        row = decoder.decode(line.content)
        if not _repeats_no_key(row, line.content):
            json.loads(line.content, object_pairs_hook=_refuse_repeated_keys)
    except msgspec.ValidationError as error:
        return BadLine(line.path, line.number, _explain(error, _parsed(line.content)), line.content)
    except RecursionError:
        return BadLine(line.path, line.number, ": is nested too deep", line.content)
    except ValueError as error:
        return BadLine(line.path, line.number, f": is not valid JSON: {error}", line.content)
    return row


def _repeats_no_key(row: object, content: bytes) -> bool:
    r"""Whether a quick count proves that no object of the line has a key twice, or a key that is not read.

    Unless white space stands before a colon, every key ends in `":`, and inside a string that is `\":`. If there are
    no more such ends than distinct keys were read, none is repeated. False says nothing: then it must be looked up.
    """
    # A single byte is found ten times faster than two, and tabs are rare.
    spaces = (b"\t", b"\r", b" ")
    if not isinstance(row, HistoryRow) or any(one in content and one + b":" in content for one in spaces):
        return False
    return content.count(b'":') - content.count(b'\\":') == row.num_keys()


def _refuse_repeated_keys(pairs: list[tuple[str, Any]]) -> None:
    if len({key for key, _ in pairs}) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for i, key in enumerate(keys) if key in keys[:i])
        raise ValueError(f"key {shorten(repeated)} is given twice in one object")


def _parquet_rows(path: Path, row_type: type[RowT]) -> Iterator[tuple[RawLine, RowT | BadLine]]:
    try:
        rows = pl.read_parquet(path).iter_rows(named=True)
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{path}: cannot be read as parquet: {error}") from error
    for number, values in enumerate(rows, start=1):
        line = RawLine(path, number, msgspec.json.encode(values))
        try:
            yield line, msgspec.convert(values, row_type)
        except msgspec.ValidationError as error:
            yield line, BadLine(path, number, _explain(error, values), line.content)


_AT = re.compile(r" - at `\$\.?(?P<path>.*?)`$")


def _explain(error: msgspec.ValidationError, row: Any) -> str:
    """`, field reviews[3].rating: expected `float`, got `str`, got "five"`, or the same without a field."""
    message = str(error)
    found = _AT.search(message)
    rule = _AT.sub("", message)
    rule = rule[:1].lower() + rule[1:]
    if not found:
        return f": {rule}, got {shorten(row)}"
    return f", field {found['path']}: {rule}, got {shorten(_value_at(row, found['path']))}"


def _parsed(content: bytes) -> Any:
    try:
        return msgspec.json.decode(content)
    except (ValueError, RecursionError):
        return content


def _value_at(value: Any, path: str) -> Any:
    for name, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", path):
        try:
            value = value[name] if name else value[int(index)]
        except (KeyError, IndexError, TypeError):
            return value
    return value
