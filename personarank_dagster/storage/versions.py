"""Versioned outputs: written aside, checked, flushed, published whole, and only then pointed to.

    <base>/<asset>/<partition>/<version>/…           the files of one version, never changed again
    <base>/<asset>/<partition>/<version>/manifest.json
    <base>/<asset>/<partition>/CURRENT                 the name of the version that readers get

A crash at any moment leaves CURRENT at the last whole version. A folder that is being written, read or removed is
locked by its process; what a killed process leaves behind has no lock and is swept.
"""

import os
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from upath import UPath

from personarank_dagster.core.errors import StorageError
from personarank_dagster.storage.bucket import BucketPlace, requests_to
from personarank_dagster.storage.disk import file_sha256, flush, lock_folder, storage_errors, write_flushed
from personarank_dagster.storage.manifests import (
    FORMAT_VERSION,
    MANIFEST,
    FileEntry,
    Manifest,
    Provenance,
    decode_manifest,
    encode_manifest,
)
from personarank_dagster.storage.places import POINTER, FolderPlace, Place

# Key under which `write` hands over the sha256 of files that it hashed while it wrote them, by path.
HASHED = "sha256"


@dataclass(frozen=True)
class Version:
    """One published version: where it lies and its manifest."""

    place: Place
    manifest: Manifest

    @property
    def name(self) -> str:
        """Name of its folder; names sort by the time of publishing."""
        return self.manifest.version

    @property
    def bytes(self) -> int:
        """Size of its files."""
        return sum(entry.bytes for entry in self.manifest.files)

    @property
    def directory(self) -> Path:
        """Folder with its files; of a version in a bucket, a copy on this machine, which is fetched if need be."""
        return self.place.directory(self.manifest)

    @property
    def address(self) -> str:
        """Where it lies, for people."""
        return str(self.place.root / self.name)

    def damage(self) -> list[str]:
        """Files that are not what the manifest says, by size and by sha256."""
        return [problem for entry in self.manifest.files if (problem := self._damage(entry))]

    def _damage(self, entry: FileEntry) -> str | None:
        path = self.place.root / self.name / entry.path
        try:
            sha256 = self.place.sha256(f"{self.name}/{entry.path}")
        except FileNotFoundError:
            return f"{path}: expected {entry.bytes} bytes, got no file"
        except (StorageError, OSError) as error:
            return str(error)
        return None if sha256 == entry.sha256 else f"{path}: sha256 must be {entry.sha256}, got {sha256}"


@dataclass(frozen=True)
class VersionStore:
    """The versions of one asset and partition under `base`; `copies` is the folder for copies if that is a bucket."""

    base: Path | UPath
    asset: str
    partition: str
    copies: Path | None = None

    @property
    def root(self) -> Path | UPath:
        """Folder that holds the versions and the pointer."""
        return self.base / self.asset / self.partition

    @property
    def place(self) -> Place:
        """What works in that folder."""
        if isinstance(self.root, Path):
            return FolderPlace(self.root)
        assert self.copies is not None
        return BucketPlace(self.root, FolderPlace(self.copies / self.asset / self.partition))

    @property
    def name(self) -> str:
        """Name for messages."""
        return f"{self.asset} ({self.partition})"

    def publish(
        self,
        write: Callable[[Path], Mapping[str, Any]],
        *,
        run_id: str,
        data_version: str,
        provenance: Provenance,
        check: Callable[[], None] = lambda: None,
    ) -> Version:
        """Let `write` fill an empty folder, then make it the current version.

        `write` returns the details of the manifest, and under HASHED what it hashed itself. `check` raises
        ContractError if the content breaks its contract; it runs at the same time, since one waits for the disk and
        the other for the processor. Whatever fails, the folder is removed and the current version stays. Raises
        StorageError for a disk that is full or cannot be written.
        """
        version = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{data_version[:8]}"
        with storage_errors(self.root), self.place.staging(version) as staging:
            details, files = _write_and_check(write, check, staging)
            manifest = Manifest(
                format_version=FORMAT_VERSION,
                asset=self.asset,
                partition=self.partition,
                version=version,
                created=datetime.now(UTC),
                run_id=run_id,
                data_version=data_version,
                provenance=provenance,
                details=details,
                files=files,
            )
            write_flushed(staging / MANIFEST, encode_manifest(manifest))
            self.place.publish(staging, version)
            self.place.point_to(version)
        return Version(self.place, manifest)

    def names(self) -> list[str]:
        """Names of all published versions, oldest first."""
        return self.place.names()

    def open(self, name: str) -> Version:
        """A version by its name, its file sizes checked. Raises StorageError if it is not there or not whole."""
        try:
            return _open(self.place, name)
        except (FileNotFoundError, NotADirectoryError):
            names = ", ".join(self.names()) or "none"
            raise StorageError(f"{self.name}: has no version {name}; it has {names}") from None

    def bytes_of(self, name: str) -> int:
        """Size of all files of a version, whole or not."""
        return sum(self.place.sizes(name).values())

    def current_name(self) -> str | None:
        """The name that CURRENT holds; None if nothing was ever published. Raises StorageError if it is lost."""
        try:
            return self.place.read(POINTER).decode().strip()
        except FileNotFoundError:
            if names := self.names():
                raise StorageError(
                    f"{self.root / POINTER}: is missing, though there are versions up to {names[-1]}; "
                    "`personarank doctor` points to the newest whole one, `personarank rollback` to any"
                ) from None
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise StorageError(f"{self.root / POINTER}: cannot be read: {error}") from error

    def current(self) -> Version:
        """The version that CURRENT names, its file sizes checked. Raises StorageError if there is none to trust."""
        if (version := self.find_current()) is None:
            raise StorageError(f"{self.name}: nothing published under {self.root}; materialise it first")
        return version

    def find_current(self) -> Version | None:
        """As `current`, but None where nothing was ever published."""
        name = self.current_name()
        if name is None:
            return None
        try:
            return _open(self.place, name)
        except (FileNotFoundError, NotADirectoryError):
            raise StorageError(
                f"{self.root / POINTER}: names {name or 'nothing'}, which is not there; "
                "`personarank doctor` points to the newest whole version"
            ) from None

    def previous(self) -> Version | None:
        """The newest version before the current one that is there whole, by the sizes of its files."""
        current = self.current_name()
        for name in reversed(self.names()):
            if current and name < current:
                with suppress(StorageError):
                    return self.open(name)
        return None

    def rollback(self, name: str | None = None) -> Version:
        """Make an older version the current one again: the one before it, or any by name.

        Raises StorageError if there is none, or if a file of it is not what it was.
        """
        version = self.open(name) if name else self.previous()
        if version is None:
            raise StorageError(f"{self.name}: has no version before the current one, {self.current_name()}")
        if damage := version.damage():
            raise StorageError(f"{self.name}: cannot go back to {version.name}: {damage[0]}")
        with storage_errors(self.root):
            self.place.point_to(version.name)
        return version

    def use(self) -> "InUse":
        """Open the current version and keep it from being removed until the result is closed."""
        while True:
            version = self.current()
            directory = version.directory
            try:
                in_use = InUse(version, lock_folder(directory, shared=True))
            except FileNotFoundError:
                continue
            if directory.exists():
                return in_use
            in_use.close()

    def removable(self, keep: int) -> list[str]:
        """Names of versions beyond the newest `keep`, the current one never among them; oldest first."""
        current = self.current_name()
        return [name for name in self.names()[: -keep or None] if name != current]

    def remove(self, name: str) -> bool:
        """Remove a version; False if it is current or a process uses it."""
        return self.place.remove(name, lambda version: version == self.current_name())

    def leftovers(self) -> list[str]:
        """Folders of processes that were killed while they wrote or removed a version."""
        return self.place.leftovers()

    def sweep(self) -> list[str]:
        """Remove what `leftovers` lists."""
        return self.place.sweep()


@dataclass(frozen=True)
class InUse:
    """A version that is not removed before `close`, or before the process ends."""

    version: Version
    _descriptor: int

    def close(self) -> None:
        """Let it be removed."""
        os.close(self._descriptor)


def check_writable(folder: Path | UPath) -> None:
    """Raise StorageError, with the reason, if outputs cannot be written here; a folder is made, a bucket is not."""
    probe = folder / f".probe-{uuid.uuid4().hex[:8]}"
    with storage_errors(folder), nullcontext() if isinstance(folder, Path) else requests_to(folder):
        if isinstance(folder, Path):
            folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()


def _open(place: Place, name: str) -> Version:
    """A version, its format and file sizes checked. Raises FileNotFoundError if it has no manifest."""
    path = place.root / name / MANIFEST
    try:
        manifest = decode_manifest(place.read(f"{name}/{MANIFEST}"), path)
    except (PermissionError, IsADirectoryError) as error:
        raise StorageError(f"{path}: is not a readable manifest: {error}") from error
    sizes = place.sizes(name)
    for entry in manifest.files:
        if (size := sizes.get(entry.path)) != entry.bytes:
            got = "no file" if size is None else size
            raise StorageError(f"{place.root / name / entry.path}: expected {entry.bytes} bytes, got {got}")
    return Version(place, manifest)


def _write_and_check(
    write: Callable[[Path], Mapping[str, Any]], check: Callable[[], None], directory: Path
) -> tuple[dict[str, Any], list[FileEntry]]:
    with ThreadPoolExecutor(1) as pool:
        checked = pool.submit(check)
        try:
            details = dict(write(directory))
            return details, _flushed_entries(directory, details.pop(HASHED, {}))
        finally:
            # What is wrong with the content is a better message than what it broke in writing.
            checked.result()


def _flushed_entries(directory: Path, hashed: Mapping[str, str]) -> list[FileEntry]:
    """Flush all files, and hash those that are not; the one keeps the disk busy, the other the processor."""
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    with ThreadPoolExecutor(2) as pool:
        flushed = pool.map(flush, paths)
        entries = list(pool.map(lambda path: _entry(directory, path, hashed), paths))
        list(flushed)
        return entries


def _entry(directory: Path, path: Path, hashed: Mapping[str, str]) -> FileEntry:
    name = str(path.relative_to(directory))
    return FileEntry(name, path.stat().st_size, hashed.get(name) or file_sha256(path))
