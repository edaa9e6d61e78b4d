"""Versions on the disk of a node, copied there once: what is mapped and read all over is not read from a network."""

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from personarank_dagster.core.errors import StorageError
from personarank_dagster.storage.disk import content_hash, locked, storage_errors

NODE_DIR_VARIABLE = "PERSONARANK_NODE_DIR"

# In the folder of a place: of which it is.
SOURCE = ".source"

OpenedT = TypeVar("OpenedT")


def node_folder() -> Path:
    """The folder of the copies: $PERSONARANK_NODE_DIR, else one of this user among temporary files.

    Raises StorageError if it is another user's, who could put other vectors there.
    """
    chosen = os.environ.get(NODE_DIR_VARIABLE)
    folder = Path(chosen) if chosen else Path(tempfile.gettempdir()) / f"personarank-{os.getuid()}"
    with storage_errors(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid != os.getuid():
            raise StorageError(f"{folder}: must be a folder of this user; set {NODE_DIR_VARIABLE} to another one")
    return folder


def opened_on_node(version: Path, open_copy: Callable[[Path], OpenedT]) -> OpenedT:
    """What `open_copy` gives of a copy of a version's folder; other versions of its place are removed.

    All of it under a lock, so that one of several processes copies and none removes what another is about to open.
    """
    place = node_folder() / content_hash(str(version.parent))
    with storage_errors(place):
        place.mkdir(exist_ok=True)
        with locked(place / ".lock"):
            copy = place / version.name
            if not copy.exists():
                _remove_others(place)
                _remove_sourceless(place.parent)
                (place / SOURCE).write_text(str(version.parent))
                staging = place / f".{uuid.uuid4().hex[:8]}"
                shutil.copytree(version, staging)
                staging.rename(copy)
            return open_copy(copy)


def _remove_sourceless(folder: Path) -> None:
    """Remove copies of what is nowhere any more."""
    for source in folder.glob(f"*/{SOURCE}"):
        # Another process may do the same.
        with suppress(FileNotFoundError):
            if not Path(source.read_text()).exists():
                shutil.rmtree(source.parent, ignore_errors=True)


def _remove_others(place: Path) -> None:
    for path in place.iterdir():
        if path.is_dir():
            # What is mapped of it stays with the processes that have it.
            shutil.rmtree(path, ignore_errors=True)
