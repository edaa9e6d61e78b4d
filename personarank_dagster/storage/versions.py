"""Versioned outputs: written aside, checked, flushed, published whole, and only then pointed to.

    <base>/<asset>/<partition>/<version>/…           the files of one version, never changed again
    <base>/<asset>/<partition>/<version>/manifest.json
    <base>/<asset>/<partition>/CURRENT                 the name of the version that readers get

Checks judge a version before it may become current; one that is refused stays beside the others, for inspection.
A crash at any moment leaves CURRENT at the last whole version. A folder that is being written, read or removed is
locked by its process; what a killed process leaves behind has no lock and is swept.
"""

import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from upath import UPath

from personarank_dagster.core.errors import StorageError, reason_of
from personarank_dagster.storage.bucket import BucketPlace, requests_to
from personarank_dagster.storage.disk import lock_folder, storage_errors, write_flushed
from personarank_dagster.storage.manifests import (
    FORMAT_VERSION,
    MANIFEST,
    FileEntry,
    Manifest,
    Provenance,
    Verdict,
    decode_manifest,
    encode_manifest,
)
from personarank_dagster.storage.places import NOTHING, POINTER, FolderPlace, Place, gone
from personarank_dagster.storage.written_files import write_and_check

# The first part of a version's name: names sort by the time of publishing.
STAMP = "%Y%m%dT%H%M%S%f"


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

    def hold(self) -> "InUse":
        """Keep it from being removed until the result is closed. Raises StorageError if it is not there any more."""
        directory = self.directory
        try:
            in_use = InUse(self, lock_folder(directory, shared=True))
        except FileNotFoundError:
            raise gone(directory) from None
        if directory.exists():
            return in_use
        in_use.close()
        raise gone(directory)

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
class Staged:
    """A version that is written and not yet published: what checks judge."""

    directory: Path
    manifest: Manifest


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
        judge: Callable[[Staged], Sequence[Verdict]] = lambda staged: (),
    ) -> Version:
        """Let `write` fill an empty folder, have it judged, and make it the current version if no check fails.

        `write` returns the details of the manifest, and under HASHED what it hashed itself. `check` raises
        ContractError if the content breaks its contract; it runs at the same time, since one waits for the disk and
        the other for the processor. `judge` says what blocking checks find: a version that fails one is published,
        for inspection, but does not become current. Whatever raises, the folder is removed and the current version
        stays. Raises StorageError for a disk that is full or cannot be written.
        """
        version = f"{self._next_stamp()}-{data_version[:8]}"
        with storage_errors(self.root), self.place.staging(version) as staging:
            details, files = write_and_check(write, check, staging)
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
            judged = msgspec.structs.replace(manifest, checks=tuple(judge(Staged(staging, manifest))))
            write_flushed(staging / MANIFEST, encode_manifest(judged))
            self.place.publish(staging, version)
            self.place.point_to(version) if judged.accepted else self.place.set_aside(version)
        return Version(self.place, judged)

    def _next_stamp(self) -> str:
        """The time, but after that of every version that is there: a clock may go backwards."""
        last = self.names()[-1:]
        now = datetime.now(UTC).strftime(STAMP)
        if not last or now > last[0].split("-")[0]:
            return now
        return (datetime.strptime(last[0].split("-")[0], STAMP) + timedelta(microseconds=1)).strftime(STAMP)

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
        """The name that CURRENT holds; None if nothing ever was current. Raises StorageError if it is lost."""
        name = self._pointed()
        # What is there now may have come after the pointer was looked at, together with it.
        if name is None and (names := self._pointed_once()) and (name := self._pointed()) is None:
            raise StorageError(
                f"{self.root / POINTER}: is missing, though there are versions up to {names[-1]}; "
                "`personarank doctor` points to the newest whole one, `personarank rollback` to any"
            )
        return None if name == NOTHING else name

    def _pointed(self) -> str | None:
        try:
            return self.place.read(POINTER).decode().strip()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise StorageError(f"{self.root / POINTER}: cannot be read: {reason_of(error)}") from error

    def _pointed_once(self) -> list[str]:
        """Versions for which there must be a pointer, oldest first."""
        finished = self.place.finished()
        return sorted({*finished} - {*self.refused()}) if finished else []

    def current(self) -> Version:
        """The version that CURRENT names, its file sizes checked. Raises StorageError if there is none to trust."""
        if (version := self.find_current()) is None:
            raise StorageError(f"{self.name}: nothing published under {self.root}; materialise it first")
        return version

    def find_current(self) -> Version | None:
        """As `current`, but None where nothing ever was current."""
        while (name := self.current_name()) is not None:
            try:
                return _open(self.place, name)
            except (FileNotFoundError, NotADirectoryError):
                problem = StorageError(
                    f"{self.root / POINTER}: names {name or 'nothing'}, which is not there; "
                    "`personarank doctor` points to the newest whole version"
                )
            except StorageError as error:
                problem = error
            # Another one became current meanwhile, and this one was removed.
            if self.current_name() == name:
                raise problem
        return None

    def newest(self) -> Version | None:
        """The version that was published last, refused or not, if it is there whole."""
        return next(self._newest_first(), None)

    def made_by(self, run_id: str) -> Version | None:
        """The version that a run has published, unless it was refused."""
        found = (version for version in self._newest_first() if version.manifest.run_id == run_id)
        return next((version for version in found if version.manifest.accepted), None)

    def previous(self, name: str | None = None) -> Version | None:
        """The newest version before this one, or the current one, that is there whole and was not refused."""
        before = name or self.current_name() or ""
        older = (version for version in self._newest_first() if version.name < before)
        return next((version for version in older if not version.manifest.refusal), None)

    def _newest_first(self) -> Iterator[Version]:
        for name in reversed(self.names()):
            with suppress(StorageError):
                yield self.open(name)

    def rollback(self, name: str | None = None, *, force: bool = False) -> Version:
        """Make an older version the current one again: the one before it, or any by name.

        Raises StorageError if there is none, if a file of it is not what it was, or, unless with `force`, if its
        checks did not accept it.
        """
        version = self.open(name) if name else self.previous()
        if version is None:
            raise StorageError(f"{self.name}: has no version before the current one, {self.current_name()}")
        # Nobody removes it from here on.
        with storage_errors(self.root), self.place.lease(version.name):
            if not (force or version.manifest.accepted):
                why = version.manifest.refusal or "published by an earlier release, which did not judge versions"
                raise StorageError(f"{self.name}: {version.name} was not accepted: {why}; --force goes back to it")
            if damage := version.damage():
                raise StorageError(f"{self.name}: cannot go back to {version.name}: {damage[0]}")
            self.place.point_to(version.name)
        return version

    def use(self) -> "InUse":
        """Open the current version and keep it from being removed until the result is closed."""
        while True:
            version = self.current()
            try:
                return version.hold()
            except StorageError:
                if self.current_name() == version.name:
                    raise

    def removable(self, keep: int) -> list[str]:
        """Names of versions beyond the newest `keep`, and of refused ones but the last; oldest first.

        The current one is never among them, and the last refused one only if it is older than that.
        """
        names, current, refused = self.names(), self.current_name(), self.refused()
        kept = [name for name in names if name not in refused][-keep:]
        inspected = [name for name in refused[-1:] if name > (current or "")]
        return [name for name in names if name not in (*kept, *inspected, current)]

    def refused(self) -> list[str]:
        """Names of the versions that a check refused, oldest first."""
        return sorted(version.name for version in self._newest_first() if version.manifest.refusal)

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
        raise StorageError(f"{path}: is not a readable manifest: {reason_of(error)}") from error
    sizes = place.sizes(name)
    for entry in manifest.files:
        if (size := sizes.get(entry.path)) != entry.bytes:
            got = "no file" if size is None else size
            raise StorageError(f"{place.root / name / entry.path}: expected {entry.bytes} bytes, got {got}")
    return Version(place, manifest)
