"""Versions in an object store. Nothing can be renamed or locked there, and one object is put whole or not at all.

    <version>/.owner          put first, deleted last: host and process that make the version
    <version>/…, then <version>/manifest.json, then CURRENT

    <version>/.lease-…        somebody needs the version
    <version>/.removing       somebody is about to remove it

Who removes a version says so before looking for leases, who leases it does so before looking for a removal: one of
them sees the other. A version counts from its manifest on, and is current from the pointer on; what has an owner that
is gone, and is not current, never was. What is read lies on this machine as a copy whose every file was hashed when
it came.
"""

import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from upath import UPath

from personarank_dagster.core.errors import StorageError, reason_of
from personarank_dagster.storage.disk import is_unused, remove_unused, sha256_of, storage_errors
from personarank_dagster.storage.manifests import MANIFEST, Manifest, decode_manifest, encode_manifest
from personarank_dagster.storage.places import POINTER, FolderPlace, Place, gone
from personarank_dagster.storage.process_identity import is_dead, is_of_this_machine, this_process

OWNER, LEASE, REMOVING = ".owner", ".lease-", ".removing"
# Of a process on another machine nothing is known; an upload that is older than this counts as left.
UPLOAD_LIMIT = timedelta(days=1)


def bucket_path(address: str) -> UPath:
    """Path of an address such as s3://bucket/prefix. Raises StorageError if its kind is not installed."""
    try:
        path = UPath(address, use_listings_cache=False)
        path.fs  # noqa: B018 - made on first use
    except (ImportError, ValueError) as error:
        raise StorageError(f"{address}: {reason_of(error)}; pip install 'personarank-dagster[s3]'") from error
    return path


@contextmanager
def requests_to(root: UPath) -> Iterator[None]:
    """Raise a failed request as StorageError; a file that is not there is for the caller."""
    try:
        yield
    except (FileNotFoundError, StorageError):
        raise
    except Exception as error:
        if isinstance(error, OSError) or type(error).__module__.split(".")[0] in ("botocore", "aiobotocore"):
            raise StorageError(f"{root}: the object store answered: {reason_of(error)}") from error
        raise


@dataclass(frozen=True)
class BucketPlace(Place):
    """A prefix in an object store, and the folder of the copies on this machine."""

    root: UPath
    copies: FolderPlace

    def names(self) -> list[str]:
        return sorted(version for version, files in self._versions().items() if MANIFEST in files)

    def finished(self) -> list[str]:
        return sorted(name for name, files in self._versions().items() if MANIFEST in files and OWNER not in files)

    def read(self, name: str) -> bytes:
        with requests_to(self.root):
            content: bytes = self.root.fs.cat_file(self._key(name))
            return content

    def sizes(self, version: str) -> dict[str, int]:
        return {name: info["size"] for name, info in self._versions().get(version, {}).items()}

    def sha256(self, name: str) -> str:
        with requests_to(self.root), self.root.fs.open(self._key(name), "rb") as file:
            return sha256_of(file)

    def staging(self, version: str) -> AbstractContextManager[Path]:
        return self.copies.staging(version)

    def publish(self, staging: Path, version: str) -> None:
        with requests_to(self.root):
            self.root.fs.pipe_file(self._key(f"{version}/{OWNER}"), this_process().encode())
            files = sorted(path for path in staging.rglob("*") if path.is_file())
            for path in sorted(files, key=lambda path: path.name == MANIFEST):
                self.root.fs.put_file(str(path), self._key(f"{version}/{path.relative_to(staging)}"))
        # What was written here need not be fetched.
        self.copies.take_over(staging, version)

    def point_to(self, version: str) -> None:
        with self.lease(version), requests_to(self.root):
            # A version that was current once is no leftover, whatever became of its maker.
            self._disown(self._current())
            self.root.fs.pipe_file(self._key(POINTER), version.encode() + b"\n")
            self._disown(version)

    def set_aside(self, version: str) -> None:
        with requests_to(self.root):
            self._disown(version)

    @contextmanager
    def lease(self, version: str) -> Iterator[None]:
        key = self._key(f"{version}/{LEASE}{uuid.uuid4().hex[:8]}")
        with requests_to(self.root):
            self.root.fs.pipe_file(key, this_process().encode())
        try:
            files = self._versions().get(version, {})
            if MANIFEST not in files or (REMOVING in files and self._is_held(f"{version}/{REMOVING}")):
                raise gone(self.root / version)
            yield
        finally:
            with requests_to(self.root), suppress(FileNotFoundError):
                self.root.fs.rm_file(key)

    def directory(self, manifest: Manifest) -> Path:
        copy = self.copies.directory(manifest)
        if not self._is_copy(copy, manifest):
            remove_unused(copy)
            self._fetch(manifest)
        return copy

    def remove(self, version: str, is_current: Callable[[str], bool]) -> bool:
        copy = self.copies.root / version
        if self._is_owned(version) or (copy.exists() and not is_unused(copy)):
            return False
        removing = self._key(f"{version}/{REMOVING}")
        with requests_to(self.root):
            self.root.fs.pipe_file(removing, this_process().encode())
        if is_current(version) or self._is_leased(version):
            with requests_to(self.root):
                self.root.fs.rm_file(removing)
            return False
        self._delete(version)
        remove_unused(copy)
        return True

    def leftovers(self) -> list[str]:
        return [str(self.root / version) for version in self._leftover_versions()] + self._leftover_copies()

    def sweep(self) -> list[str]:
        swept = self._leftover_versions()
        for version in swept:
            self._delete(version)
        copies = [path for path in self._leftover_copies() if remove_unused(Path(path))]
        return [str(self.root / version) for version in swept] + copies

    def _versions(self) -> dict[str, dict[str, Any]]:
        """What the store says of every file, by version and path in it."""
        found: dict[str, dict[str, Any]] = {}
        with requests_to(self.root):
            for key, info in self.root.fs.find(self._key(""), detail=True).items():
                version, _, name = key.removeprefix(self._key("")).partition("/")
                if name:
                    found.setdefault(version, {})[name] = info
        return found

    def _leftover_versions(self) -> list[str]:
        """Versions without a manifest, or that never were current, whose maker is gone."""
        versions, current = self._versions(), self._current()
        unfinished = [name for name, files in versions.items() if OWNER in files or MANIFEST not in files]
        return [name for name in sorted(unfinished) if name != current and not self._is_owned(name)]

    def _leftover_copies(self) -> list[str]:
        gone = sorted(set(self.copies.names()) - set(self.names()))
        return self.copies.leftovers() + [str(self.copies.root / name) for name in gone]

    def _is_owned(self, version: str) -> bool:
        """Whether a process still makes this version, as far as can be known."""
        return self._is_held(f"{version}/{OWNER}")

    def _is_leased(self, version: str) -> bool:
        """Whether somebody needs the version."""
        leases = [name for name in self._versions().get(version, {}) if name.startswith(LEASE)]
        return any(self._is_held(f"{version}/{name}") for name in leases)

    def _is_held(self, name: str) -> bool:
        """Whether the object is there, and as far as can be known the process that put it."""
        with requests_to(self.root), suppress(FileNotFoundError):
            holder = self.root.fs.cat_file(self._key(name)).decode()
            if is_of_this_machine(holder):
                return not is_dead(holder)
            age: timedelta = datetime.now(UTC) - self.root.fs.modified(self._key(name))
            return age < UPLOAD_LIMIT
        return False

    def _current(self) -> str:
        with suppress(FileNotFoundError):
            return self.read(POINTER).decode().strip()
        return ""

    def _disown(self, version: str) -> None:
        with suppress(FileNotFoundError):
            if version:
                self.root.fs.rm_file(self._key(f"{version}/{OWNER}"))

    def _delete(self, version: str) -> None:
        """The manifest goes first: without it the rest is no version."""
        with requests_to(self.root), suppress(FileNotFoundError):
            if self.root.fs.exists(self._key(f"{version}/{MANIFEST}")):
                self.root.fs.rm_file(self._key(f"{version}/{MANIFEST}"))
            self.root.fs.rm(self._key(version), recursive=True)

    def _is_copy(self, copy: Path, manifest: Manifest) -> bool:
        """Whether the copy is of this version and whole; what was hashed when it came is not hashed again."""
        try:
            known = decode_manifest((copy / MANIFEST).read_bytes(), copy)
        except (OSError, StorageError):
            return False
        sizes = self.copies.sizes(copy.name)
        return known == manifest and all(sizes.get(entry.path) == entry.bytes for entry in manifest.files)

    def _fetch(self, manifest: Manifest) -> None:
        with storage_errors(self.copies.root), self.copies.staging(manifest.version) as staging:
            for entry in manifest.files:
                path = staging / entry.path
                path.parent.mkdir(parents=True, exist_ok=True)
                self._fetch_file(f"{manifest.version}/{entry.path}", path, entry.sha256)
            (staging / MANIFEST).write_bytes(encode_manifest(manifest))
            try:
                self.copies.take_over(staging, manifest.version)
            except OSError:
                # Another process was faster; its copy is as good.
                if not self._is_copy(self.copies.directory(manifest), manifest):
                    raise
                shutil.rmtree(staging, ignore_errors=True)

    def _fetch_file(self, name: str, path: Path, sha256: str) -> None:
        with requests_to(self.root):
            self.root.fs.get_file(self._key(name), str(path))
        with path.open("rb") as file:
            if (found := sha256_of(file)) != sha256:
                raise StorageError(f"{self.root / name}: sha256 must be {sha256}, got {found}")

    def _key(self, name: str) -> str:
        return f"{self.root.path.rstrip('/')}/{name}"
