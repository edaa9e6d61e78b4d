"""Embeddings on disk: `vectors.npy` (fp16, memory-mapped) and `index.parquet`, which says what each row is.

Beside them, for caches, `text_keys.npy`, the key of the text of each vector, and the files of `mapped_cache`.
Matrices are written, checked and hashed in parts, so that they may be larger than memory.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import xxhash

from personarank_dagster.core.errors import ContractError, StorageError, reason_of
from personarank_dagster.core.profiles import FloatArray
from personarank_dagster.ranking.ranker import VectorTable
from personarank_dagster.storage.hashing_writer import HashedFile
from personarank_dagster.storage.versions import Staged, Version
from personarank_dagster.storage.written_files import HASHED
from personarank_dagster.vectors.mapped_cache import VECTORS, write_lookup
from personarank_dagster.vectors.matrices import read_array, release_pages, row_lengths, row_parts, save_matrix
from personarank_dagster.vectors.text_keys import KeyArray

INDEX = "index.parquet"
TEXT_KEYS = "text_keys.npy"

# Key of the manifest's details under which a cache says what it was made with.
MADE_WITH = "made_with"

# Rounding to fp16 moves the length of a unit vector by less than this, at any dimension in use.
UNIT_TOLERANCE = 2e-3
# Parts that are read before their pages are given back.
HELD_PARTS = 64


class MadeWith(msgspec.Struct, frozen=True, kw_only=True):
    """What a cache was made with. Two caches can be compared if encoder, template and mode are the same.

    `vectors` names the store of the base vectors, empty where texts were not encoded here.
    """

    encoder: str
    model: str
    dimension: int
    max_len: int
    template_version: str
    mode: str
    fields: str
    truncated_share: float
    vectors: str = ""

    @property
    def space(self) -> tuple[str, str, str]:
        """What must be equal of two caches for cosines between them to mean something."""
        return self.encoder, self.template_version, self.mode


@dataclass(frozen=True)
class CacheTable(VectorTable):
    """Vectors and index of a cache, what it was made with, and, where texts were encoded here, their keys."""

    made_with: MadeWith
    text_keys: KeyArray | None = None


def write_embeddings(directory: Path, embeddings: VectorTable) -> dict[str, Any]:
    """Write vectors as fp16 and the index beside them; returns what the manifest says of them."""
    vectors = embeddings.vectors
    with HashedFile(directory / VECTORS) as file:
        save_matrix(file, _parts(embeddings), (len(vectors), vectors.shape[1]))
    embeddings.index.write_parquet(directory / INDEX)
    numbers = {"rows": embeddings.index.height, "vectors": len(vectors), "dimension": vectors.shape[1]}
    numbers |= {HASHED: {VECTORS: file.sha256}}
    if not isinstance(embeddings, CacheTable):
        return numbers
    write_lookup(directory, embeddings.index)
    if embeddings.text_keys is not None:
        np.save(directory / TEXT_KEYS, embeddings.text_keys, allow_pickle=False)
    return {**numbers, MADE_WITH: msgspec.to_builtins(embeddings.made_with)}


def read_embeddings(directory: Path) -> VectorTable:
    """Memory-map the vectors and read the index. Raises StorageError for a damaged file."""
    try:
        index = pl.read_parquet(directory / INDEX)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise StorageError(
            f"{directory}: embeddings cannot be read: {reason_of(error)}; materialise them again"
        ) from error
    return VectorTable(read_array(directory / VECTORS), index)


def made_with(cache: Version | Staged) -> MadeWith:
    """What a cache was made with. Raises StorageError for a version of an older release."""
    try:
        return msgspec.convert(cache.manifest.details[MADE_WITH], MadeWith)
    except (KeyError, msgspec.ValidationError) as error:
        raise StorageError(f"{cache.directory}: does not say what it was made with; materialise it again") from error


def check_embeddings(name: str, embeddings: VectorTable) -> None:
    """Raise ContractError unless every vector is finite, of unit length, and used by an index row that exists."""
    vectors, rows = embeddings.vectors, embeddings.vector_rows
    begin = 0
    for part in _parts(embeddings):
        lengths = row_lengths(part)
        if (wrong := np.flatnonzero(~(np.abs(lengths - 1) <= UNIT_TOLERANCE))).size:
            row = begin + int(wrong[0])
            raise ContractError(f"{name}: vectors must have length 1, got {lengths[wrong[0]]:.4g} in row {row}")
        begin += len(part)
    if len(rows) and (rows.max() >= len(vectors) or not np.bincount(rows, minlength=len(vectors)).all()):
        raise ContractError(f"{name}: vector_row must cover the {len(vectors)} vectors, got up to {rows.max()}")


def embeddings_version(embeddings: VectorTable, index_version: str) -> str:
    """Content hash of vectors (as fp16) and index."""
    digest = xxhash.xxh3_128(index_version.encode())
    digest.update(repr(embeddings.vectors.shape).encode())
    for part in _parts(embeddings):
        digest.update(np.ascontiguousarray(part, dtype=np.float16).data)
    return digest.hexdigest()


def _parts(embeddings: VectorTable) -> Iterator[FloatArray]:
    vectors = embeddings.vectors
    for count, rows in enumerate(row_parts(len(vectors))):
        yield vectors[rows]
        if count % HELD_PARTS == 0:
            release_pages(vectors)
