"""Matrices of vectors as `.npy` files, written and read in parts, so that they may be larger than memory."""

import mmap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from personarank_dagster.core.errors import StorageError, reason_of

Float16Array = npt.NDArray[np.float16]


class Writable(Protocol):
    """A file that is written from its beginning to its end."""

    def write(self, block: Any, /) -> object:
        """Write bytes behind those before."""


PART_ROWS = 1 << 14


def row_parts(rows: int) -> Iterator[slice]:
    """Slices that cover so many rows, in order."""
    return (slice(begin, min(begin + PART_ROWS, rows)) for begin in range(0, rows, PART_ROWS))


def save_matrix(file: Writable, parts: Iterable[npt.NDArray[np.floating]], shape: tuple[int, int]) -> None:
    """Write the parts of a matrix of this shape one after the other, as fp16."""
    header = {"descr": "<f2", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    for part in parts:
        file.write(np.ascontiguousarray(part, dtype="<f2").data)


def row_lengths(matrix: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Length of each row as fp16; NaN or infinite for a row with a number that is not finite."""
    from personarank_dagster.ranking.kernels import fill_lengths

    lengths = np.empty(len(matrix), dtype=np.float32)
    fill_lengths(lengths, np.ascontiguousarray(matrix, dtype=np.float16).view(np.uint16))
    return lengths


def release_pages(matrix: npt.NDArray[np.floating]) -> None:
    """Give back the memory of the parts of a memory-mapped matrix that were read; they stay on the disk."""
    mapped = getattr(matrix, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def read_array(path: Path) -> Any:
    """Memory-map an array. Raises StorageError if the file is missing or damaged."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise StorageError(
            f"{path}: embeddings cannot be read: {reason_of(error)}; materialise them again"
        ) from error
