"""Content hashes of raw files, remembered: a file is hashed again only if its size, times or inode differ."""

import time
import uuid
from contextlib import suppress
from pathlib import Path

import msgspec

from personarank_dagster.storage.disk import file_sha256

# A file that changed this shortly before it was hashed may have changed after it too, within the same clock tick.
SETTLED_NANOSECONDS = 2_000_000_000


class _Hashed(msgspec.Struct, frozen=True):
    stamp: tuple[int, int, int, int]
    hashed_at: int
    sha256: str


def file_version(path: Path, remembered: Path) -> str:
    """Content hash of a file, from `remembered` if it was hashed as it is now; else "missing" or "unreadable"."""
    try:
        stat = path.stat()
    except OSError:
        return "missing"
    if not path.is_file():
        return "not a file"
    stamp = (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
    known = _load(remembered)
    found = known.get(str(path))
    if (
        found
        and found.stamp == stamp
        and max(stat.st_mtime_ns, stat.st_ctime_ns) < found.hashed_at - SETTLED_NANOSECONDS
    ):
        return found.sha256
    started = time.time_ns()
    try:
        hashed = _Hashed(stamp, started, file_sha256(path))
    except OSError:
        return "unreadable"
    _save(remembered, known | {str(path): hashed})
    return hashed.sha256


def _load(remembered: Path) -> dict[str, _Hashed]:
    try:
        return msgspec.json.decode(remembered.read_bytes(), type=dict[str, _Hashed])
    except (OSError, ValueError):
        return {}


def _save(remembered: Path, known: dict[str, _Hashed]) -> None:
    """Replace the file in one step; what another process wrote meanwhile is hashed again, not wrong."""
    temporary = remembered.with_name(f".{remembered.name}-{uuid.uuid4().hex[:8]}")
    # Where outputs cannot be written, every look costs a hash; the run itself says so.
    with suppress(OSError):
        remembered.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(msgspec.json.encode(known))
        temporary.replace(remembered)
