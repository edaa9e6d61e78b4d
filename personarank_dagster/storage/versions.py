"""Versioned outputs: written aside, checked, flushed, renamed, and only then pointed to.

    <base>/<asset>/<partition>/<version>/…           the files of one version, never changed again
    <base>/<asset>/<partition>/<version>/manifest.json
    <base>/<asset>/<partition>/CURRENT                 the name of the version that readers get

A crash at any moment leaves CURRENT at the last whole version.
"""

import fcntl
import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from personarank_dagster.core.errors import PersonarankError, StorageError

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
POINTER = "CURRENT"


class FileEntry(msgspec.Struct, frozen=True):
    """One file of a version."""

    path: str
    bytes: int
    sha256: str


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """What a version was made from: equal provenance means equal content."""

    code_version: str
    config_hash: str
    inputs: dict[str, str]


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a version is; `details` are the numbers of its kind (rows, shape, fingerprints)."""

    format_version: int
    asset: str
    partition: str
    version: str
    created: datetime
    run_id: str
    data_version: str
    provenance: Provenance
    details: dict[str, Any]
    files: list[FileEntry]


@dataclass(frozen=True)
class Version:
    """One published version: its folder and its manifest."""

    directory: Path
    manifest: Manifest


@dataclass(frozen=True)
class VersionStore:
    """The versions of one asset and partition under `base`."""

    base: Path
    asset: str
    partition: str

    @property
    def root(self) -> Path:
        """Folder that holds the versions and the pointer."""
        return self.base / self.asset / self.partition

    def publish(
        self,
        write: Callable[[Path], Mapping[str, Any]],
        *,
        run_id: str,
        data_version: str,
        provenance: Provenance,
    ) -> Version:
        """Let `write` fill an empty folder, then make it the current version.

        `write` returns the details of the manifest and raises ContractError if its content breaks its contract.
        Whatever fails, the folder is removed and the current version stays. Raises StorageError for a disk that
        is full or cannot be written.
        """
        version = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{data_version[:8]}"
        staging = self.root / f".staging-{version}-{uuid.uuid4().hex[:8]}"
        with _storage_errors(self.root):
            staging.mkdir(parents=True)
            try:
                details = dict(write(staging))
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
                    files=_entries(staging),
                )
                _write_flushed(staging / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)))
                _flush_tree(staging)
                staging.rename(self.root / version)
            except BaseException:
                shutil.rmtree(staging, ignore_errors=True)
                raise
            self._point_to(version)
        return Version(self.root / version, manifest)

    def current(self) -> Version:
        """The version that CURRENT names, its file sizes checked. Raises StorageError if there is none to trust."""
        if (version := self.find_current()) is None:
            raise StorageError(
                f"{self.asset} ({self.partition}): nothing published under {self.root}; materialise it first"
            )
        return version

    def find_current(self) -> Version | None:
        """As `current`, but None where nothing was ever published."""
        try:
            name = (self.root / POINTER).read_text().strip()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(f"{self.root / POINTER}: cannot be read: {error.strerror or error}") from error
        return _open_version(self.root / name)

    def previous(self) -> Version | None:
        """The version that was published before the current one and is still there."""
        current = self.find_current()
        names = [path.parent.name for path in self.root.glob(f"*/{MANIFEST}")]
        older = sorted(name for name in names if current and name < current.manifest.version)
        return _open_version(self.root / older[-1]) if older else None

    def _point_to(self, version: str) -> None:
        with _locked(self.root / ".lock"):
            temporary = self.root / f".{POINTER}-{uuid.uuid4().hex[:8]}"
            _write_flushed(temporary, version.encode() + b"\n")
            temporary.replace(self.root / POINTER)
            _flush(self.root)


def check_writable(folder: Path) -> None:
    """Raise StorageError, with the reason, if outputs cannot be written into this folder; it is made if need be."""
    probe = folder / f".probe-{uuid.uuid4().hex[:8]}"
    with _storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()


def link(target: Path, name: Path) -> None:
    """Make `name` a relative symbolic link to `target` in one step. Raises StorageError if a real file is there."""
    if name.exists() and not name.is_symlink():
        raise StorageError(f"{name}: expected a link that this program made, got a file or folder; move it away")
    with _storage_errors(name.parent):
        name.parent.mkdir(parents=True, exist_ok=True)
        temporary = name.parent / f".{name.name}-{uuid.uuid4().hex[:8]}"
        temporary.symlink_to(os.path.relpath(target, name.parent))
        temporary.replace(name)


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_hash(*parts: str) -> str:
    """Hex hash of strings, in order; no two different lists of strings share their input."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part.encode())
    return digest.hexdigest()


def _open_version(directory: Path) -> Version:
    path = directory / MANIFEST
    try:
        content = path.read_bytes()
        format_version = msgspec.json.decode(content)["format_version"]
        if format_version != FORMAT_VERSION:
            raise StorageError(
                f"{path}: format_version must be {FORMAT_VERSION}, got {format_version}; "
                "it was written by another release of personarank"
            )
        manifest = msgspec.json.decode(content, type=Manifest)
    except (OSError, msgspec.MsgspecError, KeyError, TypeError) as error:
        raise StorageError(f"{path}: is not a readable manifest: {error}") from error
    for entry in manifest.files:
        _check_size(directory / entry.path, entry.bytes)
    return Version(directory, manifest)


def _check_size(path: Path, expected: int) -> None:
    size = path.stat().st_size if path.is_file() else None
    if size != expected:
        raise StorageError(f"{path}: expected {expected} bytes, got {'no file' if size is None else size}")


def _entries(directory: Path) -> list[FileEntry]:
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    return [FileEntry(str(path.relative_to(directory)), path.stat().st_size, file_sha256(path)) for path in paths]


@contextmanager
def _storage_errors(place: Path) -> Iterator[None]:
    try:
        yield
    except PersonarankError:
        raise
    except OSError as error:
        raise StorageError(f"{error.filename or place}: cannot be written: {error.strerror or error}") from error


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _write_flushed(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _flush_tree(directory: Path) -> None:
    for path in [*directory.rglob("*"), directory]:
        _flush(path)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
