"""Matrices of vectors as `.npy` files, written and read in parts, so that they may be larger than memory."""

import mmap
from collections.abc import Iterable, Iterator
from typing import IO

import numpy as np
import numpy.typing as npt

Float16Array = npt.NDArray[np.float16]

PART_ROWS = 1 << 14


def row_parts(rows: int) -> Iterator[slice]:
    """Slices that cover so many rows, in order."""
    return (slice(begin, min(begin + PART_ROWS, rows)) for begin in range(0, rows, PART_ROWS))


def save_matrix(file: IO[bytes], parts: Iterable[npt.NDArray[np.floating]], shape: tuple[int, int]) -> None:
    """Write the parts of a matrix of this shape one after the other, as fp16."""
    header = {"descr": "<f2", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    for part in parts:
        file.write(np.ascontiguousarray(part, dtype="<f2").data)


def release_pages(matrix: npt.NDArray[np.floating]) -> None:
    """Give back the memory of the parts of a memory-mapped matrix that were read; they stay on the disk."""
    mapped = getattr(matrix, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)
