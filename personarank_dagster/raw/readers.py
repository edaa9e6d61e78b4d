"""Read raw files into tables; every line is kept exactly, or named with field, rule and value.

A file is read in blocks of whole lines that fit the processor's cache. A block is decoded at once, and kept if it is
proved that every line is one object and that no object gives a key twice. Any doubt sends its lines, one by one, the
careful way, which also says what is wrong with which.
"""

import gc
import gzip
import os
import re
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy as np
import polars as pl

from personarank_dagster.core.errors import InputError
from personarank_dagster.raw.bad_lines import Account, BadLine, ReadRules
from personarank_dagster.raw.columns import Columns, FileKind, Spread
from personarank_dagster.raw.repeated_keys import count_keys, refuse_repeated_keys
from personarank_dagster.raw.rows import RowError, shorten

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

# The objects of a block stay in the cache; one table of several blocks costs less than several tables.
BLOCK_BYTES = 512 << 10
TABLE_BYTES = 1 << 20
PARQUET_ROWS = 1_000

# Below this a file is never called an exploding archive: small files of equal lines pack well.
SMALL_UNPACKED_BYTES = 64 << 20


def read_tables(path: Path, kind: FileKind, account: Account) -> Iterator[pl.DataFrame]:
    """Tables of a .jsonl, .jsonl.gz or .parquet file, in order; its lines go into the account, blank ones apart.

    Raises InputError for a file that cannot be read, that changes meanwhile, that asks for too much, or whose bad
    lines stop the run.
    """
    max_line_bytes = account.rules.max_line_bytes
    lines_before = 0
    with _unchanged(path):
        for part in _tabulate(path, _whole_lines(path, account.rules), kind):
            account.add(part.num_filled, part.bad, lines_before)
            lines_before += part.num_lines
            if part.too_long:
                place = f"{path} line {lines_before + 1}"
                raise InputError(
                    f"{place}: is longer than max_line_mb {max_line_bytes >> 20}; split it or raise the limit"
                )
            yield part.table
    account.close()


@dataclass
class _Part:
    """Lines that follow each other; the bad ones count from the first of them."""

    table: pl.DataFrame
    bad: list[BadLine]
    num_lines: int
    num_filled: int
    # The next line is over the limit; nothing is read beyond it.
    too_long: bool = False


def _whole_lines(path: Path, rules: ReadRules) -> Iterator[bytes]:
    if path.suffix == ".parquet":
        return _parquet_blocks(path)
    if path.suffix == ".gz":
        return _gzip_blocks(path, rules)
    return _plain_blocks(path, rules.max_line_bytes)


class _LineTooLongError(Exception):
    """The line after the last block is over the limit."""


def _blocks(file: IO[bytes] | gzip.GzipFile, max_line_bytes: int) -> Iterator[bytes]:
    """Whole lines, about BLOCK_BYTES at a time. Raises _LineTooLongError instead of reading a line over the limit."""
    while block := file.read(min(BLOCK_BYTES, max_line_bytes)):
        if not block.endswith(b"\n"):
            begun = block.rfind(b"\n") + 1
            block += file.readline(max_line_bytes + 1 - (len(block) - begun))
            if len(block) - begun > max_line_bytes:
                if begun:
                    yield block[:begun]
                raise _LineTooLongError
        yield block


def _plain_blocks(path: Path, max_line_bytes: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from _blocks(file, max_line_bytes)


def _gzip_blocks(path: Path, rules: ReadRules) -> Iterator[bytes]:
    unpacked = 0
    with path.open("rb") as packed, gzip.open(packed) as file:
        for block in _blocks(file, rules.max_line_bytes):
            unpacked += len(block)
            if unpacked > SMALL_UNPACKED_BYTES and unpacked > rules.max_gzip_ratio * packed.tell():
                raise InputError(
                    f"{path}: unpacks to more than max_gzip_ratio {rules.max_gzip_ratio} times its size; "
                    "raise the limit if the file is what it should be"
                )
            yield block


def _parquet_blocks(path: Path) -> Iterator[bytes]:
    """Rows as lines of JSON, so that every file is under the same rules; times are ISO text."""
    encoder = msgspec.json.Encoder()
    try:
        rows = pl.scan_parquet(path, glob=False)
        if binary := [name for name, dtype in rows.collect_schema().items() if "Binary" in str(dtype)]:
            raise InputError(f"{path}, column {binary[0]}: expected text, got bytes; write it as a string column")
        for batch in rows.collect_batches(chunk_size=PARQUET_ROWS, maintain_order=True):
            yield encoder.encode_lines(batch.to_dicts())
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{path}: cannot be read as parquet: {error}") from error


def _tabulate(path: Path, blocks: Iterator[bytes], kind: FileKind) -> Iterator[_Part]:
    decoder = msgspec.json.Decoder(kind.row_type)
    lines = _Lines(path, kind)
    try:
        for block in blocks:
            lines.add(block, decoder)
            if lines.num_bytes >= TABLE_BYTES:
                yield lines.part()
                lines = _Lines(path, kind)
        yield lines.part()
    except _LineTooLongError:
        part = lines.part()
        part.too_long = True
        yield part


@dataclass
class _Lines:
    """Lines that are not yet a table."""

    path: Path
    kind: FileKind
    columns: dict[str, list[Any]] = field(init=False)
    bad: list[BadLine] = field(default_factory=list)
    num_lines: int = 0
    num_filled: int = 0
    num_bytes: int = 0

    def __post_init__(self) -> None:
        self.columns = {name: [] for name in self.kind.schema}

    def add(self, block: bytes, decoder: msgspec.json.Decoder[Any]) -> None:
        """Add whole lines."""
        breaks = _breaks(block)
        with _collector_paused():
            columns = _decode_block(block, breaks, self.kind, decoder)
        if columns is not None:
            self._extend(columns)
            self.num_filled += len(breaks) + 1
        else:
            self._add_one_by_one(block, decoder)
        self.num_lines += len(breaks) + 1
        self.num_bytes += len(block)

    def part(self) -> _Part:
        """All of them as a table."""
        table = pl.DataFrame(self.columns, schema=self.kind.schema)
        return _Part(table, self.bad, self.num_lines, self.num_filled)

    def _extend(self, columns: Columns) -> None:
        for name, values in columns.items():
            self.columns[name] += values

    def _add_one_by_one(self, block: bytes, decoder: msgspec.json.Decoder[Any]) -> None:
        for number, line in enumerate(block.split(b"\n"), start=self.num_lines + 1):
            if not line.strip():
                continue
            self.num_filled += 1
            try:
                self._extend(_decode_line(line, self.kind, decoder))
            except RowError as error:
                self.bad.append(BadLine(self.path, number, f", field {error.path}: {error}", line))
            except msgspec.ValidationError as error:
                self.bad.append(BadLine(self.path, number, _explain(error, _parsed(line)), line))
            except RecursionError:
                self.bad.append(BadLine(self.path, number, ": is nested too deep", line))
            except ValueError as error:
                self.bad.append(BadLine(self.path, number, f": is not valid JSON: {error}", line))


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Spare the collector of reference cycles a look at thousands of objects that have none."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _breaks(block: bytes) -> np.ndarray:
    """Places of the line breaks that have a line after them."""
    ends = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n"))
    return ends[:-1] if block.endswith(b"\n") else ends


def _decode_block(
    block: bytes, breaks: np.ndarray, kind: FileKind, decoder: msgspec.json.Decoder[Any]
) -> Columns | None:
    """Columns of lines that are all good; None if one may not be."""
    try:
        rows = decoder.decode_lines(block)
        if len(rows) != len(breaks) + 1 or not _stand_between_objects(breaks, block):
            return None
        spread = Spread()
        columns = kind.columns_of(rows, spread)
        if count_keys(block) != spread.num_keys:
            for line in block.split(b"\n"):
                refuse_repeated_keys(line or b"{}")
    except (ValueError, RecursionError):
        return None
    return columns


def _stand_between_objects(breaks: np.ndarray, block: bytes) -> bool:
    """Whether no line break of valid JSON stands within an object, so that each line is one."""
    text = np.frombuffer(block, np.uint8)
    before = np.where(text[breaks - 1] == ord("\r"), text[breaks - 2], text[breaks - 1])
    return bool((before == ord("}")).all() and (text[breaks + 1] == ord("{")).all())


def _decode_line(line: bytes, kind: FileKind, decoder: msgspec.json.Decoder[Any]) -> Columns:
    if line.startswith(BYTE_ORDER_MARK):
        raise ValueError("the line starts with a byte order mark; save the file as UTF-8 without one")
    row = decoder.decode(line)
    spread = Spread()
    columns = kind.columns_of([row], spread)
    if count_keys(line) != spread.num_keys:
        refuse_repeated_keys(line)
    return columns


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
