"""Read raw files into tables; every line is kept exactly, or named with field, rule and value.

A file is read in blocks of whole lines that fit the processor's cache. A block is decoded at once, and kept if it is
proved that every line is one object and that no object gives a key twice. Any doubt sends its lines, one by one, the
careful way, which also says what is wrong with which.
"""

import gc
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl

from personarank_dagster.core.errors import InputError, reason_of
from personarank_dagster.core.file_lists import FileList
from personarank_dagster.raw.bad_lines import Account, BadLine, ReadRules
from personarank_dagster.raw.blocks import LineTooLongError, gzip_blocks, plain_blocks
from personarank_dagster.raw.columns import Columns, FileKind, Spread
from personarank_dagster.raw.explanations import place_and_problem
from personarank_dagster.raw.forms import first_bytes, form_error, is_named_gzip, is_named_parquet, text_form
from personarank_dagster.raw.parquet.lines import parquet_blocks
from personarank_dagster.raw.parts import ENDINGS, parts_of
from personarank_dagster.raw.repeated_keys import count_keys, refuse_repeated_keys
from personarank_dagster.raw.rows import RowError

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

# One table of several blocks costs less than several tables.
TABLE_BYTES = 1 << 20

EXPECTED = f"a {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]} file, a folder of them, a pattern, or a list of these"

CORRECT = "correct the path in data.yaml"


def read_tables(path: Path, kind: FileKind, account: Account) -> Iterator[pl.DataFrame]:
    """Tables of a raw file, or of its parts in the order of their names; lines go into the account, blank ones apart.

    Raises InputError for a file that cannot be read, that changes meanwhile, that asks for too much, or most of whose
    lines are in another form than JSON. Bad lines stop the run when the account is closed.
    """
    with present_parts(path) as parts:
        for part in parts:
            yield from read_part(part, kind, account)


def whole_lines(path: Path, kind: FileKind, rules: ReadRules) -> Iterator[bytes]:
    """Blocks of whole lines of one file."""
    if is_named_parquet(path):
        return parquet_blocks(path, kind.row_type, rules)
    return (gzip_blocks if is_named_gzip(path) else plain_blocks)(path, rules)


@contextmanager
def present_parts(path: Path) -> Iterator[list[Path]]:
    """The parts of a path. Raises InputError if there are none, or others when the block ends."""
    with _named(path):
        parts = parts_of(path)
    if not parts:
        raise InputError(f"{path}: expected {EXPECTED}, got {_nothing(path)}")
    yield parts
    if parts_of(path) != parts:
        raise InputError(f"{path}: changed while it was read; run again when it is complete")


def _nothing(path: Path) -> str:
    if isinstance(path, FileList):
        return f"none for {next(one for one in path.paths if not parts_of(one))}; {CORRECT}"
    return f"an empty folder; fill it, or {CORRECT}" if path.is_dir() else f"no such file; {CORRECT}"


def read_part(path: Path, kind: FileKind, account: Account) -> Iterator[pl.DataFrame]:
    """Tables of one file; see `read_tables`."""
    bad_before, filled_before, lines_before = account.num_bad, account.num_lines, 0
    with _unchanged(path):
        form = text_form(first_bytes(path))
        for part in _tabulate(path, whole_lines(path, kind, account.rules), kind):
            account.add(part.num_filled, part.bad, lines_before)
            lines_before += part.num_lines
            if part.too_long:
                raise form_error(path, form) if form else _too_long(path, lines_before + 1, account.rules)
            yield part.table
    if form and 2 * (account.num_bad - bad_before) > account.num_lines - filled_before:
        raise form_error(path, form)


def _too_long(path: Path, line: int, rules: ReadRules) -> InputError:
    limit = rules.max_line_bytes >> 20
    return InputError(f"{path} line {line}: is longer than max_line_mb {limit}; split it or raise the limit")


@dataclass
class _Part:
    """Lines that follow each other; the bad ones count from the first of them."""

    table: pl.DataFrame
    bad: list[BadLine]
    num_lines: int
    num_filled: int
    # The next line is over the limit; nothing is read beyond it.
    too_long: bool = False


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
    except LineTooLongError:
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
                self._extend(decode_line(line, self.kind, decoder))
            except (ValueError, RecursionError) as error:
                self.bad.append(BadLine(self.path, number, *place_and_problem(error, line), line))


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


def decode_line(line: bytes, kind: FileKind, decoder: msgspec.json.Decoder[Any]) -> Columns:
    """Columns of one line. Raises ValueError or RecursionError for one that breaks a rule."""
    if line.startswith(BYTE_ORDER_MARK):
        raise RowError("", "begins with a byte order mark; save the file as UTF-8 without one")
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
    if not path.name.lower().endswith(ENDINGS):
        raise InputError(f"{path}: expected {EXPECTED}, got {path.suffix or 'no'} ending; rename or convert it")
    with _named(path):
        yield
    if _stamp(path) != before:
        raise InputError(f"{path}: changed while it was read; run again when it is complete")


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Raise what cannot be read or unpacked as InputError."""
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read: {reason_of(error)}; copy or write it again") from error


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        found = os.stat(path)
    except OSError as error:
        raise InputError(f"{path}: expected {EXPECTED}, got no such file; {CORRECT}") from error
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder inside of it" if stat.S_ISDIR(found.st_mode) else "not a regular file"
        raise InputError(f"{path}: expected {EXPECTED}, got {kind}; {CORRECT}")
    return found.st_size, found.st_mtime_ns, found.st_ino
