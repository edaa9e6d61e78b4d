"""Folders for what is gone with the process: also if it is killed, since the next one sweeps them."""

import fcntl
import shutil
import tempfile
import weakref
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

LOCK = ".lock"


class ScratchFolder:
    """A new folder under `base`, removed by `close`, with this object, or when the process ends.

    Making one removes those of processes that are gone: a folder in use is locked by its process.
    """

    def __init__(self, base: Path) -> None:
        base.mkdir(parents=True, exist_ok=True)
        with (base / LOCK).open("w") as making:
            fcntl.flock(making, fcntl.LOCK_EX)
            sweep_scratch(base)
            self.path = Path(tempfile.mkdtemp(dir=base))
            lock = (self.path / LOCK).open("w")
            fcntl.flock(lock, fcntl.LOCK_EX)
        self._finalizer = weakref.finalize(self, _remove, self.path, lock)

    def close(self) -> None:
        """Remove the folder."""
        self._finalizer()


@contextmanager
def resumable_folder(base: Path, name: str) -> Iterator[Path]:
    """The folder `name` under `base`, with what a killed process left in it; it stays, until it is swept.

    While another process works in it, a folder of one's own, which goes again: nothing is resumed from there.
    """
    base.mkdir(parents=True, exist_ok=True)
    folder = base / name
    folder.mkdir(exist_ok=True)
    with (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with tempfile.TemporaryDirectory(dir=base) as own:
                yield Path(own)
            return
        yield folder


def sweep_scratch(base: Path, *, only: str = "", keep: Collection[str] = ()) -> list[Path]:
    """Remove folders of processes that are gone, and return them: those of `only` this work, but none to `keep`."""
    swept = []
    for lock_path in sorted(base.glob(f"{only}*/{LOCK}")):
        if lock_path.parent.name in keep:
            continue
        with lock_path.open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(lock_path.parent, ignore_errors=True)
            swept.append(lock_path.parent)
    return swept


def _remove(path: Path, lock: IO[str]) -> None:
    shutil.rmtree(path, ignore_errors=True)
    lock.close()
