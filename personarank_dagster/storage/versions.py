"""Versioned outputs: written aside, checked, flushed, renamed, and only then pointed to.

    <base>/<asset>/<partition>/<version>/…           the files of one version, never changed again
    <base>/<asset>/<partition>/<version>/manifest.json
    <base>/<asset>/<partition>/CURRENT                 the name of the version that readers get

A crash at any moment leaves CURRENT at the last whole version. A folder that is being written, read or removed is
locked by its process; what a killed process leaves behind has no lock and is swept.
"""

import errno
import fcntl
import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
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
# Names of folders that no reader looks into: being written, or being removed.
STAGING = ".staging-"


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

    @property
    def name(self) -> str:
        """Name of its folder; names sort by the time of publishing."""
        return self.manifest.version

    @property
    def bytes(self) -> int:
        """Size of its files."""
        return sum(entry.bytes for entry in self.manifest.files)

    def damage(self) -> list[str]:
        """Files that are not what the manifest says, by size and by sha256."""
        found = []
        for entry in self.manifest.files:
            path = self.directory / entry.path
            try:
                _check_size(path, entry.bytes)
                if (sha256 := file_sha256(path)) != entry.sha256:
                    found.append(f"{path}: sha256 must be {entry.sha256}, got {sha256}")
            except (StorageError, OSError) as error:
                found.append(str(error))
        return found


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

        `write` returns the details of the manifest. `check` raises ContractError if the content breaks its contract;
        it runs at the same time, since one waits for the disk and the other for the processor. Whatever fails, the
        folder is removed and the current version stays. Raises StorageError for a disk that is full or cannot be
        written.
        """
        version = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{data_version[:8]}"
        staging = self.root / f"{STAGING}{version}-{uuid.uuid4().hex[:8]}"
        with _storage_errors(self.root):
            staging.mkdir(parents=True)
            with _in_use(staging):
                try:
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
                    _write_flushed(staging / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)))
                    _flush_folders(staging)
                    staging.rename(self.root / version)
                except BaseException:
                    shutil.rmtree(staging, ignore_errors=True)
                    raise
                self._point_to(version)
        return Version(self.root / version, manifest)

    def names(self) -> list[str]:
        """Names of all published versions, oldest first."""
        return sorted(path.parent.name for path in self.root.glob(f"[!.]*/{MANIFEST}"))

    def open(self, name: str) -> Version:
        """A version by its name, its file sizes checked. Raises StorageError if it is not there or not whole."""
        if name not in self.names():
            raise StorageError(f"{self.name}: has no version {name}; it has {', '.join(self.names()) or 'none'}")
        return _open_version(self.root / name)

    def current_name(self) -> str | None:
        """The name that CURRENT holds; None if nothing was ever published. Raises StorageError if it is lost."""
        try:
            return (self.root / POINTER).read_text().strip()
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
        if name not in self.names():
            raise StorageError(
                f"{self.root / POINTER}: names {name or 'nothing'}, which is not there; "
                "`personarank doctor` points to the newest whole version"
            )
        return _open_version(self.root / name)

    def previous(self) -> Version | None:
        """The version that was published before the current one and is still there."""
        current = self.current_name()
        older = [name for name in self.names() if current and name < current]
        return _open_version(self.root / older[-1]) if older else None

    def rollback(self, name: str | None = None) -> Version:
        """Make an older version the current one again: the one before it, or any by name.

        Raises StorageError if there is none, or if a file of it is not what it was.
        """
        version = self.open(name) if name else self.previous()
        if version is None:
            raise StorageError(f"{self.name}: has no version before the current one, {self.current_name()}")
        if damage := version.damage():
            raise StorageError(f"{self.name}: cannot go back to {version.name}: {damage[0]}")
        with _storage_errors(self.root):
            self._point_to(version.name)
        return version

    def use(self) -> "InUse":
        """Open the current version and keep it from being removed until the result is closed."""
        while True:
            version = self.current()
            in_use = InUse(version, _lock(version.directory, shared=True))
            if version.directory.exists():
                return in_use
            in_use.close()

    def removable(self, keep: int) -> list[str]:
        """Names of versions beyond the newest `keep`, the current one never among them; oldest first."""
        current = self.current_name()
        return [name for name in self.names()[: -keep or None] if name != current]

    def remove(self, name: str) -> bool:
        """Remove a version; False if it is current or a process uses it."""
        with _locked(self.root / ".lock"):
            if name == self.current_name():
                return False
            return _remove_unused(self.root / name)

    def leftovers(self) -> list[Path]:
        """Folders of processes that were killed while they wrote or removed a version."""
        return [path for path in sorted(self.root.glob(f"{STAGING}*")) if _is_unused(path)]

    def sweep(self) -> list[Path]:
        """Remove what `leftovers` lists."""
        return [path for path in self.leftovers() if _remove_unused(path)]

    def _point_to(self, version: str) -> None:
        with _locked(self.root / ".lock"):
            temporary = self.root / f".{POINTER}-{uuid.uuid4().hex[:8]}"
            _write_flushed(temporary, version.encode() + b"\n")
            temporary.replace(self.root / POINTER)
            _flush(self.root)


@dataclass(frozen=True)
class InUse:
    """A version that is not removed before `close`, or before the process ends."""

    version: Version
    _descriptor: int

    def close(self) -> None:
        """Let it be removed."""
        os.close(self._descriptor)


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


def _write_and_check(
    write: Callable[[Path], Mapping[str, Any]], check: Callable[[], None], directory: Path
) -> tuple[dict[str, Any], list[FileEntry]]:
    with ThreadPoolExecutor(1) as pool:
        checked = pool.submit(check)
        try:
            return dict(write(directory)), _flushed_entries(directory)
        finally:
            # What is wrong with the content is a better message than what it broke in writing.
            checked.result()


def _flushed_entries(directory: Path) -> list[FileEntry]:
    """Hash and flush all files; the one keeps the processor busy, the other the disk."""
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    with ThreadPoolExecutor(2) as pool:
        flushed, hashes = pool.map(_flush, paths), pool.map(file_sha256, paths)
        list(flushed)
        return [
            FileEntry(str(path.relative_to(directory)), path.stat().st_size, sha256)
            for path, sha256 in zip(paths, hashes, strict=True)
        ]


def _lock(folder: Path, *, shared: bool) -> int:
    """Descriptor of a folder that is locked until it is closed. Raises BlockingIOError if another process has it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


@contextmanager
def _in_use(folder: Path) -> Iterator[None]:
    descriptor = _lock(folder, shared=True)
    try:
        yield
    finally:
        os.close(descriptor)


def _is_unused(folder: Path) -> bool:
    try:
        os.close(_lock(folder, shared=False))
    except (BlockingIOError, FileNotFoundError):
        return False
    return True


def _remove_unused(folder: Path) -> bool:
    """Remove a folder that no process uses, in such a way that half of it is never taken for a version."""
    try:
        descriptor = _lock(folder, shared=False)
    except (BlockingIOError, FileNotFoundError):
        return False
    try:
        hidden = folder.with_name(f"{STAGING}{folder.name.removeprefix(STAGING)}")
        folder.rename(hidden)
        shutil.rmtree(hidden, ignore_errors=True)
    finally:
        os.close(descriptor)
    return True


@contextmanager
def _storage_errors(place: Path) -> Iterator[None]:
    """Raise what an operating system answered as StorageError, also where polars or safetensors pass it on."""
    try:
        yield
    except PersonarankError:
        raise
    except OSError as error:
        # numpy says of a full disk only how many bytes it could write.
        reason = os.strerror(errno.ENOSPC) if "requested and" in str(error) else error.strerror or error
        raise StorageError(f"{error.filename or place}: cannot be written: {reason}") from error
    except Exception as error:
        if (found := re.search(r"([^:]+) \(os error \d+\)", str(error))) is None:
            raise
        raise StorageError(f"{place}: cannot be written:{found[1]}") from error


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


def _flush_folders(directory: Path) -> None:
    for path in [*(path for path in directory.rglob("*") if path.is_dir()), directory]:
        _flush(path)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
