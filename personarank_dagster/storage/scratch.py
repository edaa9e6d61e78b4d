"""Folders for what is gone with the process: also if it is killed, since the next one sweeps them."""

import fcntl
import shutil
import tempfile
import weakref
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

LOCK = ".lock"


class ScratchFolder:
    """A new folder under `base`, removed by `close`, with this object, or when the process ends.

    Making one removes those of processes that are gone: a folder in use is locked by its process.
    """

    def __init__(self, base: Path) -> None:
        with _changing(base):
            _sweep(base, "", ())
            self.path = Path(tempfile.mkdtemp(dir=base))
            lock = _locked(self.path)
        self._finalizer = weakref.finalize(self, _remove, self.path, lock)

    def close(self) -> None:
        """Remove the folder."""
        self._finalizer()


@contextmanager
def resumable_folder(base: Path, name: str) -> Iterator[Path]:
    """The folder `name` under `base`, with what a killed process left in it; it stays, until it is swept.

    While another process works in it, a folder of one's own, which goes again: nothing is resumed from there.
    """
    folder, own = base / name, None
    with _changing(base):
        folder.mkdir(exist_ok=True)
        try:
            lock = _locked(folder)
        except BlockingIOError:
            folder = own = Path(tempfile.mkdtemp(dir=base, prefix=f"{name}-"))
            lock = _locked(folder)
    with lock:
        try:
            yield folder
        finally:
            if own:
                shutil.rmtree(own, ignore_errors=True)


def sweep_scratch(base: Path, *, only: str = "", keep: Collection[str] = ()) -> list[Path]:
    """Remove folders of processes that are gone, and return them: those of `only` this work, but none to `keep`."""
    if not any(path.is_dir() for path in base.glob(f"{only}*")):
        return []
    with _changing(base):
        return _sweep(base, only, keep)


@contextmanager
def _changing(base: Path) -> Iterator[None]:
    """Alone: between a folder and its lock, nobody takes it for one whose process is gone."""
    base.mkdir(parents=True, exist_ok=True)
    with (base / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _locked(folder: Path) -> IO[str]:
    """The lock of the folder, held until it is closed. Raises BlockingIOError if another process holds it."""
    lock = (folder / LOCK).open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise
    return lock


def _sweep(base: Path, only: str, keep: Collection[str]) -> list[Path]:
    swept = []
    for folder in sorted(path for path in base.glob(f"{only}*") if path.is_dir() and path.name not in keep):
        with suppress(BlockingIOError), _locked(folder):
            shutil.rmtree(folder, ignore_errors=True)
            swept.append(folder)
    return swept


def _remove(path: Path, lock: IO[str]) -> None:
    shutil.rmtree(path, ignore_errors=True)
    lock.close()
