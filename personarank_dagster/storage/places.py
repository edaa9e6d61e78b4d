"""Where the versions of one asset and partition lie: in a folder on a disk, or in a bucket (`bucket.py`)."""

import os
import shutil
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from personarank_dagster.core.errors import StorageError
from personarank_dagster.storage.disk import (
    STAGING,
    file_sha256,
    flush,
    flush_folders,
    is_unused,
    lock_folder,
    locked,
    remove_unused,
    write_flushed,
)
from personarank_dagster.storage.manifests import MANIFEST, Manifest

POINTER = "CURRENT"
# What the pointer holds before the first version is current, so that a lost one can be told from none.
NOTHING = "none"


class Place(ABC):
    """A folder of versions and the pointer to the current one; names are relative to it."""

    root: Any

    @abstractmethod
    def names(self) -> list[str]:
        """Names of all versions that are there whole, oldest first."""

    @abstractmethod
    def finished(self) -> list[str]:
        """Names of those that are not still about to become current."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Content of a small file. Raises FileNotFoundError."""

    @abstractmethod
    def sizes(self, version: str) -> dict[str, int]:
        """Size in bytes of every file of a version, by its path in it."""

    @abstractmethod
    def sha256(self, name: str) -> str:
        """Hex sha256 of a file. Raises OSError."""

    @abstractmethod
    def staging(self, version: str) -> AbstractContextManager[Path]:
        """Give an empty folder on this machine to write a version in; it is removed if that fails."""

    @abstractmethod
    def publish(self, staging: Path, version: str) -> None:
        """Make a finished folder a version, whole or not at all; it is not current yet."""

    @abstractmethod
    def point_to(self, version: str) -> None:
        """Make a version current, in one step. Raises StorageError if it is not there."""

    @abstractmethod
    def set_aside(self, version: str) -> None:
        """Leave a published version as it is: it will not become current, and is no leftover."""

    @abstractmethod
    def lease(self, version: str) -> AbstractContextManager[None]:
        """Keep a version from being removed meanwhile. Raises StorageError if it is not there."""

    @abstractmethod
    def directory(self, manifest: Manifest) -> Path:
        """The files of a version as a folder on this machine."""

    @abstractmethod
    def remove(self, version: str, is_current: Callable[[str], bool]) -> bool:
        """Remove a version; False if it is current, or a process uses it."""

    @abstractmethod
    def leftovers(self) -> list[str]:
        """Folders of processes that were killed while they wrote or removed a version."""

    @abstractmethod
    def sweep(self) -> list[str]:
        """Remove what `leftovers` lists, and return it."""


@dataclass(frozen=True)
class FolderPlace(Place):
    """A folder on a disk: versions appear by a rename, locks of folders say which process uses what."""

    root: Path

    def names(self) -> list[str]:
        return sorted(path.parent.name for path in self.root.glob(f"[!.]*/{MANIFEST}"))

    def finished(self) -> list[str]:
        return self.names()

    def read(self, name: str) -> bytes:
        return (self.root / name).read_bytes()

    def sizes(self, version: str) -> dict[str, int]:
        folder = self.root / version
        return {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}

    def sha256(self, name: str) -> str:
        return file_sha256(self.root / name)

    @contextmanager
    def staging(self, version: str) -> Iterator[Path]:
        folder = self.root / f"{STAGING}{version}-{uuid.uuid4().hex[:8]}"
        folder.mkdir(parents=True)
        lock = lock_folder(folder, shared=True)
        try:
            yield folder
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            os.close(lock)

    def publish(self, staging: Path, version: str) -> None:
        if not self.names():
            with locked(self.root / ".lock"):
                if not (self.root / POINTER).exists():
                    self._write_pointer(NOTHING)
        self.take_over(staging, version)

    def take_over(self, staging: Path, version: str) -> None:
        """Rename a finished folder to that of a version. Raises OSError if it is there."""
        flush_folders(staging)
        staging.rename(self.root / version)

    def point_to(self, version: str) -> None:
        with locked(self.root / ".lock"):
            if not (self.root / version / MANIFEST).exists():
                raise gone(self.root / version)
            self._write_pointer(version)

    def _write_pointer(self, version: str) -> None:
        """To be called with the lock."""
        temporary = self.root / f".{POINTER}"
        write_flushed(temporary, version.encode() + b"\n")
        temporary.replace(self.root / POINTER)
        flush(self.root)

    def set_aside(self, version: str) -> None:
        pass

    @contextmanager
    def lease(self, version: str) -> Iterator[None]:
        try:
            lock = lock_folder(self.root / version, shared=True)
        except FileNotFoundError:
            raise gone(self.root / version) from None
        try:
            # It was renamed, to be removed, between being opened and being locked.
            if not (self.root / version).exists():
                raise gone(self.root / version)
            yield
        finally:
            os.close(lock)

    def directory(self, manifest: Manifest) -> Path:
        return self.root / manifest.version

    def remove(self, version: str, is_current: Callable[[str], bool]) -> bool:
        with locked(self.root / ".lock"):
            return not is_current(version) and remove_unused(self.root / version)

    def leftovers(self) -> list[str]:
        return [str(path) for path in sorted(self.root.glob(f"{STAGING}*")) if is_unused(path)]

    def sweep(self) -> list[str]:
        return [path for path in self.leftovers() if remove_unused(Path(path))]


def gone(version: object) -> StorageError:
    """The error for a version that was removed meanwhile."""
    return StorageError(f"{version}: is not there any more; `personarank versions` lists those that are")
