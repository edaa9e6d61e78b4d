"""Blocks of whole lines of a file, within limits: no line and no archive takes more memory than is allowed."""

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from personarank_dagster.core.errors import InputError
from personarank_dagster.raw.bad_lines import ReadRules

# The objects of a block stay in the cache.
BLOCK_BYTES = 512 << 10

# Below this a file is never called an exploding archive: small files of equal lines pack well.
SMALL_UNPACKED_BYTES = 64 << 20


class LineTooLongError(Exception):
    """The line after the last block is over the limit."""


@dataclass(frozen=True)
class Unpacking:
    """How large a file may become in memory."""

    path: Path
    max_ratio: int
    remedy: str = "raise the limit if the file is what it should be"

    def check(self, num_bytes: int, *, of: int) -> None:
        """Raise InputError if so many bytes come `of` so many."""
        if num_bytes > SMALL_UNPACKED_BYTES and num_bytes > self.max_ratio * of:
            raise InputError(
                f"{self.path}: unpacks to more than max_gzip_ratio {self.max_ratio} times its size; {self.remedy}"
            )


def plain_blocks(path: Path, rules: ReadRules) -> Iterator[bytes]:
    """Blocks of a file of lines."""
    with path.open("rb") as file:
        yield from _blocks(file, rules.max_line_bytes)


def gzip_blocks(path: Path, rules: ReadRules) -> Iterator[bytes]:
    """Blocks of a gzip file of lines."""
    unpacking, unpacked = Unpacking(path, rules.max_gzip_ratio), 0
    with path.open("rb") as packed, gzip.open(packed) as file:
        for block in _blocks(file, rules.max_line_bytes):
            unpacked += len(block)
            unpacking.check(unpacked, of=packed.tell())
            yield block


def _blocks(file: IO[bytes] | gzip.GzipFile, max_line_bytes: int) -> Iterator[bytes]:
    """Whole lines, about BLOCK_BYTES at a time. Raises LineTooLongError instead of reading a line over the limit."""
    while block := file.read(min(BLOCK_BYTES, max_line_bytes)):
        if not block.endswith(b"\n"):
            begun = block.rfind(b"\n") + 1
            block += file.readline(max_line_bytes + 1 - (len(block) - begun))
            if len(block) - begun > max_line_bytes:
                if begun:
                    yield block[:begun]
                raise LineTooLongError
        yield block
