"""Files that a run and its actors give each other by name: in a folder that nodes share, or by way of a bucket."""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from personarank_dagster.core.errors import ConfigError
from personarank_dagster.distributed.node_copies import opened_on_node

OpenedT = TypeVar("OpenedT")

# How long the folders of another machine may show old content.
SIGHT_SECONDS = 90.0


@dataclass(frozen=True)
class Exchange:
    """Files in a folder that all nodes share, below the `out_root` that they share too."""

    folder: Path

    def file(self, name: str) -> Path:
        """A file that was written under this name. Raises ConfigError if it does not come."""
        return seen(self.folder / name)

    @contextmanager
    def written(self, name: str) -> Iterator[Path]:
        """A file to write. It has its name when the block ends: an actor that was given up may write it still."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_stem(f".{uuid.uuid4().hex[:8]}-{path.stem}")
        yield temporary
        temporary.replace(path)

    def on_node(self) -> "Exchange":
        """The same for an actor, wherever it is."""
        return self

    def version(self, path: Path) -> Path:
        """A file or folder of a published version, as an actor finds it."""
        return path

    def opened(self, version: Path, open_copy: Callable[[Path], OpenedT]) -> OpenedT:
        """What `open_copy` gives of a published version that an actor has on the disk of its node."""
        return opened_on_node(version, open_copy)

    def drop(self, name: str) -> None:
        """Forget what this machine alone has of a file that was read."""

    def store(self, store: Path) -> Path:
        """Where an actor writes blocks for a store of vectors."""
        return store

    def send(self, store: Path, blocks: list[str]) -> None:
        """Have the driver find the blocks that an actor wrote."""

    def receive(self, store: Path, blocks: list[str]) -> None:
        """Have the blocks that an actor wrote in the store. Raises ConfigError if they do not come."""
        for name in blocks:
            seen(store / f"{name}.keys.npy")

    def close(self) -> None:
        """Remove what is in nobody's scratch folder."""


def seen(path: Path) -> Path:
    """A path that another machine wrote, once it is seen here. Raises ConfigError if it is not."""
    begun = time.monotonic()
    while not path.exists():
        if time.monotonic() - begun > SIGHT_SECONDS:
            raise ConfigError(
                f"{path}: was written by another node of the cluster and is not here; out_root must be in a folder "
                "that all nodes share, or in a bucket"
            )
        time.sleep(0.1)
    return path
