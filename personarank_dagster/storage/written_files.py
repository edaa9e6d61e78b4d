"""The files of a version that is being written: checked meanwhile, flushed, each with its size and sha256."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from personarank_dagster.storage.disk import file_sha256, flush
from personarank_dagster.storage.manifests import FileEntry

# Key under which `write` hands over the sha256 of files that it hashed while it wrote them, by path.
HASHED = "sha256"


def write_and_check(
    write: Callable[[Path], Mapping[str, Any]], check: Callable[[], None], directory: Path
) -> tuple[dict[str, Any], list[FileEntry]]:
    """Let `write` fill a folder while `check` looks at the content; the details that it gave, and every file.

    The files are on the disk when this returns. Raises what either of them raises, that of `check` first.
    """
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
