"""What is published of one dataset, in a folder or a bucket, and whether that has changed."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from upath import UPath

from personarank_dagster.core.errors import StorageError
from personarank_dagster.storage.places import POINTER
from personarank_dagster.storage.versions import Version, VersionStore


@dataclass(frozen=True)
class Published:
    """The outputs of one dataset; `copies` is the folder for copies if they lie in a bucket."""

    out_root: Path | UPath
    copies: Path | None = None

    @property
    def is_near(self) -> bool:
        """Whether looking is a matter of microseconds."""
        return isinstance(self.out_root, Path) and not self.copies

    def store(self, asset: str) -> VersionStore:
        """Versions of an asset. Raises StorageError if there are none, or those of several datasets."""
        found: Iterable[Any] = (self.out_root / "versions" / asset).glob(f"*/{POINTER}")
        partitions = sorted(pointer.parent.name for pointer in found)
        if len(partitions) != 1:
            names = ", ".join(partitions)
            remedy = "`personarank doctor` says how to remove a former one" if names else "`personarank run` makes it"
            raise StorageError(f"{self.out_root}: expected one dataset with {asset}, got {names or 'none'}; {remedy}")
        return VersionStore(self.out_root / "versions", asset, partitions[0], self.copies)

    def current(self, assets: Sequence[str]) -> Mapping[str, Version]:
        """The current version of each asset. Raises StorageError."""
        return {asset: self.store(asset).current() for asset in assets}


@dataclass(frozen=True)
class Pointers:
    """The pointers of some assets; what `state` gives differs after each publishing."""

    published: Published
    assets: tuple[str, ...]

    def state(self) -> tuple[Any, ...]:
        """Which files the pointers are, or in a bucket what they hold; None for one that is not there."""
        if self.published.is_near:
            return tuple([_identity(path) for path in self._paths])
        return tuple([_content(self.published, asset) for asset in self.assets])

    @cached_property
    def _paths(self) -> list[str]:
        return [str(self.published.store(asset).root / POINTER) for asset in self.assets]


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _content(published: Published, asset: str) -> bytes | None:
    try:
        return published.store(asset).place.read(POINTER)
    except (OSError, StorageError):
        return None
