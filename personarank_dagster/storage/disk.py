"""Files and folders: hashes, flushing, locks, links, and errors of the operating system as ours."""

import errno
import fcntl
import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from personarank_dagster.core.errors import PersonarankError, StorageError

# Names of folders that no reader looks into: being written, or being removed.
STAGING = ".staging-"


def content_hash(*parts: str) -> str:
    """Hex hash of strings, in order; no two different lists of strings share their input."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part.encode())
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as file:
        return sha256_of(file)


def sha256_of(file: Any) -> str:
    """Hex sha256 of what is left in an open file."""
    return hashlib.file_digest(file, "sha256").hexdigest()


def link(target: Path, name: Path) -> None:
    """Make `name` a relative symbolic link to `target` in one step. Raises StorageError if a real file is there."""
    if name.exists() and not name.is_symlink():
        raise StorageError(f"{name}: expected a link that this program made, got a file or folder; move it away")
    with storage_errors(name.parent):
        name.parent.mkdir(parents=True, exist_ok=True)
        temporary = name.parent / f".{name.name}-{uuid.uuid4().hex[:8]}"
        temporary.symlink_to(os.path.relpath(target, name.parent))
        temporary.replace(name)


@contextmanager
def storage_errors(place: object) -> Iterator[None]:
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
        # torch says of a full disk only that it failed.
        full = f" {os.strerror(errno.ENOSPC)}" if "PytorchStreamWriter failed" in str(error) else ""
        found = re.search(r"([^:]+) \(os error \d+\)", str(error))
        if not full and found is None:
            raise
        raise StorageError(f"{place}: cannot be written:{found[1] if found else full}") from error


def write_flushed(path: Path, content: bytes) -> None:
    """Write a file that is on the disk when this returns."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def flush(path: Path) -> None:
    """Have a file or folder on the disk when this returns."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_folders(directory: Path) -> None:
    """Flush a folder and all below it; their files are flushed on their own."""
    for path in [*(path for path in directory.rglob("*") if path.is_dir()), directory]:
        flush(path)


def lock_folder(folder: Path, *, shared: bool) -> int:
    """Descriptor of a folder that is locked until it is closed. Raises BlockingIOError if another process has it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait for a lock file, and hold it."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def is_unused(folder: Path) -> bool:
    """Whether no process has locked this folder."""
    try:
        os.close(lock_folder(folder, shared=False))
    except (BlockingIOError, FileNotFoundError):
        return False
    return True


def remove_unused(folder: Path) -> bool:
    """Remove a folder that no process uses, in such a way that half of it is never taken for a version."""
    try:
        descriptor = lock_folder(folder, shared=False)
    except (BlockingIOError, FileNotFoundError):
        return False
    try:
        hidden = folder.with_name(f"{STAGING}{folder.name.removeprefix(STAGING)}")
        folder.rename(hidden)
        shutil.rmtree(hidden, ignore_errors=True)
    finally:
        os.close(descriptor)
    return True
