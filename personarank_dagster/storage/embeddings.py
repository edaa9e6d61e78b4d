"""Embeddings on disk: `vectors.npy` (fp16, memory-mapped) and `index.parquet`, which says what each row is."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from personarank_dagster.core.errors import ContractError, StorageError
from personarank_dagster.core.profiles import FloatArray, IntArray
from personarank_dagster.core.ranking import VectorTable

VECTORS = "vectors.npy"
INDEX = "index.parquet"

# Rounding to fp16 moves the length of a unit vector by less than this, at any dimension in use.
UNIT_TOLERANCE = 2e-3
CHECK_ROWS = 4_096


def write_embeddings(directory: Path, embeddings: VectorTable) -> None:
    """Write vectors as fp16 and the index beside them."""
    np.save(directory / VECTORS, np.asarray(embeddings.vectors, dtype=np.float16), allow_pickle=False)
    embeddings.index.write_parquet(directory / INDEX)


def read_embeddings(directory: Path) -> VectorTable:
    """Memory-map the vectors and read the index. Raises StorageError for a damaged file."""
    try:
        vectors = np.load(directory / VECTORS, mmap_mode="r", allow_pickle=False)
        index = pl.read_parquet(directory / INDEX)
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        raise StorageError(f"{directory}: embeddings cannot be read: {error}") from error
    return VectorTable(vectors, index)


def check_embeddings(name: str, embeddings: VectorTable) -> None:
    """Raise ContractError unless every vector is finite, of unit length, and used by an index row that exists."""
    vectors, rows = embeddings.vectors, embeddings.vector_rows
    begins = range(0, len(vectors), CHECK_ROWS)
    with ThreadPoolExecutor() as pool:
        for begin, wrong, lengths in pool.map(lambda begin: _wrong_lengths(vectors, begin), begins):
            if wrong.size:
                row = begin + int(wrong[0])
                raise ContractError(f"{name}: vectors must have length 1, got {lengths[wrong[0]]:.4g} in row {row}")
    if len(rows) and (rows.max() >= len(vectors) or not np.bincount(rows, minlength=len(vectors)).all()):
        raise ContractError(f"{name}: vector_row must cover the {len(vectors)} vectors, got up to {rows.max()}")


def _wrong_lengths(vectors: FloatArray, begin: int) -> tuple[int, IntArray, FloatArray]:
    chunk = vectors[begin : begin + CHECK_ROWS].astype(np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", chunk, chunk))
    return begin, np.flatnonzero(~(np.abs(lengths - 1) <= UNIT_TOLERANCE)), lengths


def embeddings_version(embeddings: VectorTable, index_version: str) -> str:
    """Content hash of vectors (as fp16) and index."""
    digest = hashlib.sha256(index_version.encode())
    vectors: npt.NDArray[np.float16] = np.ascontiguousarray(embeddings.vectors, dtype=np.float16)
    digest.update(repr(vectors.shape).encode())
    digest.update(vectors.view(np.uint8).data)
    return digest.hexdigest()[:32]
