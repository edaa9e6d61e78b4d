"""Vectors by the hash of their text, so that no text is encoded twice by the same encoder.

One folder per encoder fingerprint holds blocks of rows, `<name>.keys.npy` beside `<name>.vectors.npy` (fp16). A
block is whole or absent: its keys are renamed into place last. The folder is a cache; removing it costs time only.
"""

import hashlib
import os
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from personarank_dagster.core.errors import StorageError

Float16Array = npt.NDArray[np.float16]
KEY_BYTES = 16

# Texts that are encoded between two writes: what a kill can cost. Whole batches, so that the batches after a kill
# are those that would have been, and the vectors the same to the last bit.
BLOCK_TEXTS = 512


@dataclass(frozen=True)
class Lookup:
    """Vectors of texts, in their order, and how many distinct texts were found in the store or had to be encoded."""

    vectors: Float16Array
    reused: int
    encoded: int


class VectorStore:
    """Vectors of one encoder by text."""

    def __init__(self, root: Path, fingerprint: str) -> None:
        self.folder = root / fingerprint
        self._blocks: list[Float16Array] = []
        self._place_by_key: dict[bytes, tuple[int, int]] = {}
        self._load()

    def vectors_of(self, texts: Sequence[str], encode: Callable[[list[str]], npt.NDArray[np.float32]]) -> Lookup:
        """Vectors of distinct texts; missing ones are encoded in blocks, longest texts first, and kept."""
        keys = [text_key(text) for text in texts]
        missing = [text for text, key in zip(texts, keys, strict=True) if key not in self._place_by_key]
        missing.sort(key=len, reverse=True)
        for begin in range(0, len(missing), BLOCK_TEXTS):
            block = missing[begin : begin + BLOCK_TEXTS]
            self._add([text_key(text) for text in block], encode(block).astype(np.float16))
        return Lookup(self._gather(keys), reused=len(texts) - len(missing), encoded=len(missing))

    def missing(self, texts: Sequence[str]) -> int:
        """How many of these distinct texts have no vector yet."""
        return sum(text_key(text) not in self._place_by_key for text in texts)

    def _gather(self, keys: list[bytes]) -> Float16Array:
        places = [self._place_by_key[key] for key in keys]
        dimension = self._blocks[0].shape[1] if self._blocks else 0
        gathered = np.empty((len(keys), dimension), dtype=np.float16)
        for row, (block, place) in enumerate(places):
            gathered[row] = self._blocks[block][place]
        return gathered

    def _add(self, keys: list[bytes], vectors: Float16Array) -> None:
        name = uuid.uuid4().hex
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _save(self.folder / f"{name}.vectors.npy", vectors)
            _save(self.folder / f"{name}.keys.npy", np.frombuffer(b"".join(keys), dtype=f"V{KEY_BYTES}"))
        except OSError as error:
            raise StorageError(f"{self.folder}: cannot be written: {error.strerror or error}") from error
        self._register(keys, vectors)

    def _load(self) -> None:
        for path in sorted(self.folder.glob("*.keys.npy")):
            vectors_path = path.with_name(path.name.replace(".keys.", ".vectors."))
            try:
                keys = np.load(path, allow_pickle=False)
                vectors = np.load(vectors_path, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError) as error:
                raise StorageError(f"{path}: cannot be read: {error}; remove {self.folder} to encode anew") from error
            self._register([key.tobytes() for key in keys], vectors)

    def _register(self, keys: list[bytes], vectors: Float16Array) -> None:
        block = len(self._blocks)
        self._blocks.append(vectors)
        self._place_by_key.update((key, (block, row)) for row, key in enumerate(keys))


def text_key(text: str) -> bytes:
    """Key of a text: its 16-byte blake2b hash."""
    return hashlib.blake2b(text.encode(), digest_size=KEY_BYTES).digest()


def _save(path: Path, array: npt.NDArray[np.generic]) -> None:
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
