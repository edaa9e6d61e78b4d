"""Vectors by the hash of their text, so that no text is encoded twice by the same encoder.

One folder per encoder, device precision and engine holds blocks of rows: `<name>.keys.npy` (3, rows) with both halves
of each key and whether its text was cut, sorted by the first half, and `<name>.vectors.npy` (fp16). Both are
memory-mapped. The name is the hash of the keys, so that a block that is written again takes its own place. A block is
whole or absent: its keys are renamed into place last. Whoever has a store open shares its
lock; blocks are removed only by who has the lock alone. The folder is a cache; removing it costs time only.
"""

import fcntl
import os
import shutil
import time
import uuid
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import polars as pl
import xxhash

from personarank_dagster.core.encoders import EncodedTexts
from personarank_dagster.core.errors import ContractError, StorageError, reason_of
from personarank_dagster.core.profiles import IntArray
from personarank_dagster.core.texts import text_windows
from personarank_dagster.vectors.matrices import Float16Array, row_parts, save_matrix
from personarank_dagster.vectors.text_keys import KeyArray, OrderedKeys

BoolArray = npt.NDArray[np.bool_]
EncodeTexts = Callable[[Iterable[list[str]]], Iterable[EncodedTexts]]

LOCK = ".lock"

# A block is written when it is this old or this large: what a kill can cost.
BLOCK_SECONDS, BLOCK_ROWS = 10.0, 1 << 16
# More blocks than this are joined into one at the end of a build.
MAX_BLOCKS = 8


@dataclass(frozen=True)
class _Block:
    keys: KeyArray
    vectors: Float16Array


class VectorStore:
    """Vectors of one encoder by text key. One that is only written to does not look at what is there."""

    def __init__(self, root: Path, name: str, *, only_written: bool = False) -> None:
        self.folder = root / name
        self._blocks: list[_Block] = []
        self._lock: int | None = None
        if self.folder.exists() and not only_written:
            self._open()

    def __len__(self) -> int:
        return sum(len(block.vectors) for block in self._blocks)

    def places(self, keys: KeyArray) -> IntArray:
        """Where the vector of each key is, -1 for those that are not there."""
        ordered = OrderedKeys.of(keys)
        found = np.full(len(keys), -1, dtype=np.int64)
        offset = 0
        for block in self._blocks:
            rows, at = ordered.found_in(block.keys)
            new = found[at] < 0
            found[at[new]] = rows[new] + offset
            offset += len(block.vectors)
        return ordered.in_their_order(found)

    def vectors(self, places: IntArray) -> Float16Array:
        """Vectors (places, dimension) at these places."""
        dimension = self._blocks[0].vectors.shape[1] if self._blocks else 0
        gathered = np.empty((len(places), dimension), dtype=np.float16)
        for block, rows, wanted in self._by_block(places):
            gathered[wanted] = block.vectors[rows]
        return gathered

    def cut(self, places: IntArray) -> BoolArray:
        """Whether the texts at these places were longer than the encoder reads."""
        gathered = np.zeros(len(places), dtype=np.bool_)
        for block, rows, wanted in self._by_block(places):
            gathered[wanted] = block.keys[2, rows] > 0
        return gathered

    def add_texts(self, texts: pl.Series, keys: KeyArray, encode: EncodeTexts) -> None:
        """Encode texts, longest first, and keep their vectors. A kill loses the block that was not written yet.

        Raises ContractError for a vector that is not finite; it is not kept, or every later run would read it.
        """
        try:
            self.write_texts(texts, keys, encode)
        finally:
            self.reload()

    def write_texts(self, texts: pl.Series, keys: KeyArray, encode: EncodeTexts) -> list[str]:
        """`add_texts`, without seeing the new blocks; their names."""
        lengths = texts.str.len_bytes().to_numpy().astype(np.int64)
        order = np.argsort(-lengths, kind="stable")
        windows = (texts.gather(order[rows]).to_list() for rows in text_windows(lengths[order]))
        with _BlockWriter(self) as writer:
            for encoded in encode(windows):
                if wrong := int((~np.isfinite(encoded.vectors)).any(axis=1).sum()):
                    raise ContractError(
                        f"{self.folder}: vectors must be finite, the encoder gave others for {wrong} texts of a "
                        f"batch of {len(encoded.vectors)}; they are not kept; try precision fp32, or another device"
                    )
                writer.add(keys[order[encoded.places]], encoded.vectors.astype(np.float16), encoded.cut)
        return writer.names

    def reload(self) -> None:
        """See the blocks that were written since, by this process or another."""
        self._blocks = [_open_block(path) for path in sorted(self.folder.glob("*.keys.npy"))]

    def join_blocks(self) -> None:
        """Make one block of many, unless another process has the store open."""
        if len(self._blocks) <= MAX_BLOCKS or not self._lock_alone():
            return
        try:
            self._replace_blocks()
        finally:
            self._share()

    def write_block(self, keys: KeyArray, vectors: Callable[[IntArray], Float16Array]) -> str:
        """Write a block of `keys` (3, rows) and return its name; `vectors` gives the vectors of some of the rows."""
        order = np.argsort(keys[0], kind="stable")
        keys = np.ascontiguousarray(keys[:, order])
        name = xxhash.xxh3_128_hexdigest(keys.data)
        self._hold()
        try:
            with _flushed(self.folder / f"{name}.vectors.npy") as file:
                shape = (len(order), vectors(order[:0]).shape[1])
                save_matrix(file, (vectors(order[rows]) for rows in row_parts(len(order))), shape)
            with _flushed(self.folder / f"{name}.keys.npy") as file:
                np.save(file, keys, allow_pickle=False)
        except OSError as error:
            raise StorageError(f"{self.folder}: cannot be written: {error.strerror or error}") from error
        return name

    def _replace_blocks(self) -> None:
        self.reload()
        replaced = sorted(self.folder.glob("*.npy"))
        self.write_block(np.concatenate([block.keys for block in self._blocks], axis=1), self.vectors)
        for path in replaced:
            path.unlink()

    def _by_block(self, places: IntArray) -> Iterator[tuple[_Block, IntArray, IntArray]]:
        """Blocks with rows among the places: the rows, and where in `places` they stand."""
        offsets = np.cumsum([0, *(len(block.vectors) for block in self._blocks)])
        order = np.argsort(places, kind="stable")
        cuts = np.searchsorted(places, offsets, sorter=order)
        for block, offset, begin, end in zip(self._blocks, offsets, cuts, cuts[1:], strict=False):
            if begin < end:
                yield block, places[order[begin:end]] - offset, order[begin:end]

    def _open(self) -> None:
        """Hold the folder, and see its blocks."""
        self._hold()
        self.reload()

    def _hold(self) -> None:
        """Lock the folder against removal by others for as long as this object lives."""
        while self._lock is None or not _is_lock_of(self._lock, self.folder):
            with suppress(FileNotFoundError):
                self._lock = _shared_lock(self.folder)
                weakref.finalize(self, os.close, self._lock)

    def _share(self) -> None:
        """Let others in again. A lock that changes is given up for a moment, in which the folder can be removed."""
        if self._lock is not None:
            fcntl.flock(self._lock, fcntl.LOCK_SH)
        self._open()

    def _lock_alone(self) -> bool:
        if self._lock is None:
            return False
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._share()
            return False
        return True


class _BlockWriter:
    """Collects vectors and writes them as blocks, in a thread of its own, also when the encoding fails."""

    def __init__(self, store: VectorStore) -> None:
        self.store = store
        self.names: list[str] = []
        self._pool = ThreadPoolExecutor(1)
        self._writing: Future[str] | None = None
        self._start()

    def __enter__(self) -> "_BlockWriter":
        return self

    def __exit__(self, *error: object) -> None:
        with self._pool:
            self._write()
            self._wait()

    def add(self, keys: KeyArray, vectors: Float16Array, cut: BoolArray) -> None:
        """Take vectors of some texts."""
        self._keys.append(np.stack([keys[:, 0], keys[:, 1], cut.astype(np.uint64)]))
        self._vectors.append(vectors)
        self._rows += len(vectors)
        if self._rows >= BLOCK_ROWS or time.monotonic() - self._started >= BLOCK_SECONDS:
            self._write()

    def _start(self) -> None:
        self._keys: list[KeyArray] = []
        self._vectors: list[Float16Array] = []
        self._rows, self._started = 0, time.monotonic()

    def _write(self) -> None:
        self._wait()
        if self._rows:
            keys, vectors = np.concatenate(self._keys, axis=1), np.concatenate(self._vectors)
            self._writing = self._pool.submit(self.store.write_block, keys, vectors.__getitem__)
        self._start()

    def _wait(self) -> None:
        if self._writing:
            self.names.append(self._writing.result())
            self._writing = None


def prune_vectors(root: Path, *, keep: Collection[str], dry_run: bool = False) -> Iterator[tuple[str, int, bool]]:
    """Remove stores whose name begins with none of `keep`, and what killed writers left in the others.

    Gives the name of the store, or `<store>/<file>`, its bytes, and whether a process has it open. What is open
    stays. With `dry_run` nothing is removed.
    """
    for folder in sorted(path for path in root.glob("*") if path.is_dir()):
        if folder.name.startswith(tuple(keep)):
            yield from _sweep(folder, dry_run=dry_run)
        else:
            size = sum(path.stat().st_size for path in folder.glob("*"))
            yield folder.name, size, not dry_run and not _removed(folder)


def _sweep(folder: Path, *, dry_run: bool) -> Iterator[tuple[str, int, bool]]:
    """Remove what is no block, unless a process has the store open: it may be writing."""
    if not any(map(_is_leftover, folder.iterdir())):
        return
    with _alone(folder) as alone:
        for path in sorted(filter(_is_leftover, folder.iterdir())) if alone else ():
            size = path.stat().st_size
            if not dry_run:
                path.unlink()
            yield f"{folder.name}/{path.name}", size, False


def _is_leftover(path: Path) -> bool:
    """Whether this is a file that was not written to its end, or vectors that never got their keys."""
    keys = path.with_name(path.name.replace(".vectors.", ".keys."))
    return path.suffix == ".tmp" or (path.name.endswith(".vectors.npy") and not keys.exists())


def _removed(folder: Path) -> bool:
    with _alone(folder) as alone:
        if alone:
            shutil.rmtree(folder, ignore_errors=True)
    return alone


@contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Whether no process has the store open; if so, none can open it until the block ends."""
    with (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _shared_lock(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_SH)
    return lock


def _is_lock_of(lock: int, folder: Path) -> bool:
    """Whether the file that is locked is still the folder's, which may have been removed while this waited."""
    try:
        return os.path.samestat(os.fstat(lock), (folder / LOCK).stat())
    except FileNotFoundError:
        return False


def _open_block(path: Path) -> _Block:
    try:
        keys = np.load(path, mmap_mode="r", allow_pickle=False)
        vectors = np.load(path.with_name(path.name.replace(".keys.", ".vectors.")), mmap_mode="r", allow_pickle=False)
        if keys.shape != (3, len(vectors)):
            raise ValueError(f"keys must be (3, {len(vectors)}), got {keys.shape}")
    except (OSError, ValueError) as error:
        raise StorageError(
            f"{path}: cannot be read: {reason_of(error)}; remove {path.parent} to encode anew"
        ) from error
    return _Block(keys, vectors)


@contextmanager
def _flushed(path: Path) -> Iterator[IO[bytes]]:
    """A file that is renamed into place once it is whole and on the disk; an error, as a full disk, leaves none."""
    # Two processes may write the same block.
    temporary = path.with_suffix(f".{uuid.uuid4().hex[:8]}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
