"""A file that is hashed and flushed while it is written: a disk and a second core work meanwhile."""

import hashlib
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

# Blocks that may wait for their hash: what they hold of memory is bounded.
WAITING_BLOCKS = 4


class HashedFile:
    """A new file, written from its beginning to its end; `sha256` is known when it is closed.

    Blocks must not be changed after they are handed over. Writing and closing raise OSError, as for any file.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._digest = hashlib.sha256()
        self._hasher, self._flusher = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        self._hashing: deque[Future[None]] = deque()
        self._flushing: Future[None] | None = None

    @property
    def sha256(self) -> str:
        """Hex sha256 of everything that was written."""
        return self._digest.hexdigest()

    def write(self, block: bytes | memoryview) -> None:
        """Write bytes behind those before."""
        self._hashing.append(self._hasher.submit(self._digest.update, block))
        self._file.write(block)
        if self._flushing is None or self._flushing.done():
            self._wait_for_disk()
            self._flushing = self._flusher.submit(os.fdatasync, self._file.fileno())
        if len(self._hashing) > WAITING_BLOCKS:
            self._hashing.popleft().result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._hasher.shutdown()
        self._flusher.shutdown()
        self._file.close()
        if error is None:
            self._wait_for_disk()

    def _wait_for_disk(self) -> None:
        """Raise what the disk answered to the last flush."""
        if self._flushing is not None:
            self._flushing.result()
