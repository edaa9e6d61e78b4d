"""The exchange of nodes that share nothing but the bucket of the outputs.

    <bucket>/exchange/<run's own>/.owner       host and process of the driver
    <bucket>/exchange/<run's own>/vectors/…    blocks that the driver has not fetched yet
    <bucket>/exchange/<run's own>/…            shards, tables, results

Of a driver that is gone its successor fetches the blocks, and removes the rest.
"""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from personarank_dagster.distributed.exchange import Exchange, OpenedT
from personarank_dagster.distributed.node_copies import node_folder
from personarank_dagster.storage.bucket import OWNER, UPLOAD_LIMIT, bucket_path, requests_to
from personarank_dagster.storage.disk import STAGING, content_hash, remove_unused
from personarank_dagster.storage.process_identity import is_dead, is_of_this_machine, this_process
from personarank_dagster.storage.scratch import ScratchFolder
from personarank_dagster.storage.versions import VersionStore

VECTORS = "vectors"
# A block counts from its keys on, so they go last.
BLOCK_FILES = ("{}.vectors.npy", "{}.keys.npy")


@dataclass(frozen=True)
class BucketExchange(Exchange):
    """Files in a prefix of the bucket; `folder` has those that this machine has, `copies` the driver's versions."""

    bucket: str
    name: str
    copies: Path

    def file(self, name: str) -> Path:
        """A file that was written under this name, fetched once."""
        path = self.folder / name
        if not path.exists():
            with super().written(name) as temporary:
                self._get(name, temporary)
        return path

    @contextmanager
    def written(self, name: str) -> Iterator[Path]:
        """A file to write; it is put when the block ends, and not kept."""
        temporary = self.folder / f".{uuid.uuid4().hex[:8]}-{Path(name).name}"
        yield temporary
        self._put(temporary, name)
        temporary.unlink()

    def on_node(self) -> Exchange:
        """The same for an actor, with a folder of its own."""
        return replace(self, folder=_scratch_of_process().path)

    def version(self, path: Path) -> Path:
        """A file or folder of a published version, of which a node has one copy; those of others are removed."""
        if not path.is_relative_to(self.copies):
            return path
        asset, partition, version, *rest = path.relative_to(self.copies).parts
        copies = node_folder() / content_hash(self.bucket)
        store = VersionStore(bucket_path(self.bucket) / "versions", asset, partition, copies=copies)
        directory = store.open(version).directory
        for other in directory.parent.iterdir():
            if other != directory and not other.name.startswith(STAGING):
                remove_unused(other)
        return directory.joinpath(*rest)

    def opened(self, version: Path, open_copy: Callable[[Path], OpenedT]) -> OpenedT:
        """What `open_copy` gives of the node's copy."""
        return open_copy(self.version(version))

    def drop(self, name: str) -> None:
        """Remove the copy of a file that is not read again."""
        (self.folder / name).unlink(missing_ok=True)

    def store(self, store: Path) -> Path:
        """Where an actor writes blocks: its own folder."""
        return self.folder / VECTORS / store.name

    def send(self, store: Path, blocks: list[str]) -> None:
        """Put blocks, and keep none."""
        for file in _files_of(blocks):
            self._put(self.store(store) / file, f"{VECTORS}/{store.name}/{file}")
            (self.store(store) / file).unlink()

    def receive(self, store: Path, blocks: list[str]) -> None:
        """Fetch blocks into the store, and leave none."""
        store.mkdir(parents=True, exist_ok=True)
        for file in _files_of(blocks):
            temporary = store / f"{file}.{self.name[:8]}.tmp"
            self._get(f"{VECTORS}/{store.name}/{file}", temporary)
            temporary.replace(store / file)
        for file in reversed(_files_of(blocks)):
            self._root.fs.rm_file(self._key(f"{VECTORS}/{store.name}/{file}"))

    def take_over(self, vectors: Path) -> None:
        """Fetch the blocks of a driver that is gone into the stores below a folder, and remove its exchange."""
        with requests_to(self._root), suppress(FileNotFoundError):
            keys = [Path(key) for key in self._root.fs.find(self._key(VECTORS)) if key.endswith(".keys.npy")]
            for path in keys:
                self.receive(vectors / path.parent.name, [path.name.removesuffix(".keys.npy")])
        self.close()

    def close(self) -> None:
        """Remove the prefix, who owns it last."""
        with requests_to(self._root), suppress(FileNotFoundError):
            for key in sorted(self._root.fs.find(self._key("")), key=lambda key: key.endswith(OWNER)):
                self._root.fs.rm_file(key)

    def begin(self) -> None:
        """Say whose it is."""
        with requests_to(self._root):
            self._root.fs.pipe_file(self._key(OWNER), this_process().encode())

    def others(self) -> Iterator["BucketExchange"]:
        """Exchanges of drivers that are gone; of those on another machine that is known after a day."""
        root = self._root.fs
        with requests_to(self._root), suppress(FileNotFoundError):
            for key in root.find(self._key("").removesuffix(f"{self.name}/")):
                name = Path(key).parent.name
                if key.endswith(OWNER) and _is_gone(root.cat_file(key).decode(), root.modified(key)):
                    yield replace(self, name=name)

    @property
    def _root(self) -> Any:
        return bucket_path(self.bucket)

    def _key(self, name: str) -> str:
        return f"{self._root.path.rstrip('/')}/exchange/{self.name}/{name}"

    def _put(self, path: Path, name: str) -> None:
        with requests_to(self._root):
            self._root.fs.put_file(str(path), self._key(name))

    def _get(self, name: str, path: Path) -> None:
        with requests_to(self._root):
            self._root.fs.get_file(self._key(name), str(path))


def begin_exchange(out_root: Path, bucket: str, folder: Path) -> BucketExchange:
    """A new exchange of this process, which has taken over what is left of others."""
    exchange = BucketExchange(folder, bucket, uuid.uuid4().hex, out_root / "copies")
    for other in exchange.others():
        other.take_over(out_root / VECTORS)
    exchange.begin()
    return exchange


def _files_of(blocks: list[str]) -> list[str]:
    return [file.format(name) for name in blocks for file in BLOCK_FILES]


def _is_gone(owner: str, since: datetime) -> bool:
    return is_dead(owner) if is_of_this_machine(owner) else datetime.now(UTC) - since > UPLOAD_LIMIT


@cache
def _scratch_of_process() -> ScratchFolder:
    return ScratchFolder(node_folder() / "scratch")
