"""How much a parquet file unpacks to, from what it declares: its footer, and the header before every page.

polars shows neither. Both are structs in Thrift's compact protocol; the numbers of their fields are those of
https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from personarank_dagster.core.errors import InputError

# What a value takes in memory beside its text: the view of a string, the largest number.
VALUE_BYTES = 16

# A value of a page in this encoding repeats as much of the one before as it likes, without a byte of its own.
DELTA_BYTE_ARRAY = 7

# Longer names, statistics or footers are damage.
MAX_FIELD_BYTES = 64 << 20

Fields = dict[int, Any]


def unpacked_bytes(path: Path, columns: set[str]) -> int:
    """Bytes of memory that these columns may take, without decoding any; texts of a dictionary count once.

    The headers of pages count and not the sums in the footer, since it is pages that are unpacked. Raises InputError
    for what is no parquet file.
    """
    try:
        with path.open("rb") as file:
            return sum(_page_bytes(page) for chunk in _chunks(file, columns) for page in _pages(file, chunk))
    except (ValueError, IndexError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path}: cannot be read as parquet: its footer or the header of a page is damaged; write it again"
        ) from error


def _chunks(file: IO[bytes], columns: set[str]) -> list[Fields]:
    """Metadata of the columns' chunks."""
    file.seek(-8, os.SEEK_END)
    length = int.from_bytes(file.read(4), "little")
    file.seek(-8 - length, os.SEEK_END)
    footer = _read_struct(file)
    chunks = [chunk[3] for row_group in footer[4] for chunk in row_group[1]]
    return [chunk for chunk in chunks if chunk[3][0].decode() in columns]


def _pages(file: IO[bytes], chunk: Fields) -> Iterator[Fields]:
    """Headers of the pages of a chunk."""
    file.seek(chunk.get(11) or chunk[9])
    end = file.tell() + chunk[7]
    while file.tell() < end:
        header = _read_struct(file)
        yield header
        file.seek(header[3], os.SEEK_CUR)


def _page_bytes(header: Fields) -> int:
    data: Fields = header.get(5) or header.get(7) or header.get(8) or {}
    num_values, text = int(data.get(1, 0)), int(header[2])
    if min(num_values, text, header[3]) < 0:
        raise ValueError("a page of negative size")
    repeats = data.get(4 if 8 in header else 2) == DELTA_BYTE_ARRAY
    return num_values * VALUE_BYTES + text * (num_values if repeats else 1)


def _read_struct(file: IO[bytes]) -> Fields:
    """Fields of the struct that begins here, by number."""
    fields: Fields = {}
    number = 0
    while head := _read_byte(file):
        number = number + (head >> 4) if head >> 4 else _read_signed(file)
        kind = head & 15
        fields[number] = kind == 1 if kind in (1, 2) else _read_value(file, kind)
    return fields


def _read_value(file: IO[bytes], kind: int) -> Any:
    match kind:
        case 1 | 2 | 3:
            return _read_byte(file)
        case 4 | 5 | 6:
            return _read_signed(file)
        case 7:
            return _read_bytes(file, 8)
        case 8:
            return _read_bytes(file, _read_varint(file))
        case 9 | 10:
            head = _read_byte(file)
            length = head >> 4 if head >> 4 < 15 else _read_varint(file)
            return [_read_value(file, head & 15) for _ in range(length)]
        case 12:
            return _read_struct(file)
    raise ValueError(f"no kind of value has the number {kind}")


def _read_bytes(file: IO[bytes], length: int) -> bytes:
    if length > MAX_FIELD_BYTES:
        raise ValueError(f"a field of {length} bytes")
    return file.read(length)


def _read_byte(file: IO[bytes]) -> int:
    return file.read(1)[0]


def _read_signed(file: IO[bytes]) -> int:
    value = _read_varint(file)
    return value >> 1 ^ -(value & 1)


def _read_varint(file: IO[bytes]) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = _read_byte(file)
        value |= (byte & 127) << shift
        if byte < 128:
            return value
    raise ValueError("a number of more than 64 bits")
