"""Encode on a cluster: actors write blocks of vectors into the store themselves, and say which.

What travels through Ray is paths, names and counts: its own store of objects stays empty, and the store of vectors is
the checkpoint. It must be in a folder that all nodes share.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from personarank_dagster.core.encoders import BaseModel, EncodedTexts, Precision, Side
from personarank_dagster.core.errors import EncoderError
from personarank_dagster.distributed.cluster import Cluster
from personarank_dagster.distributed.pool import Pool
from personarank_dagster.vectors.text_keys import KeyArray
from personarank_dagster.vectors.vector_store import VectorStore

# Texts of a shard: enough for an actor to fill its batches, few enough that no work is lost; and shards per actor, so
# that the last of them end at about the same time.
MIN_TEXTS, MAX_TEXTS, SHARDS_PER_ACTOR = 128, 8_192, 8
# How long the folders of another machine may show old content.
SIGHT_SECONDS = 90.0


@dataclass(frozen=True)
class EncodingTask:
    """What an actor is to encode texts with, and into which store."""

    base: BaseModel
    side: Side
    store: Path
    precision: Precision
    device: str
    threads: int


@dataclass(frozen=True)
class EncodedShard:
    """How many texts an actor encoded, and the names of the blocks that hold their vectors."""

    texts: int
    blocks: list[str]


class TextEncoder:
    """Encodes shards with one engine."""

    def __init__(self, task: EncodingTask) -> None:
        import torch

        from personarank_dagster.encoding.encoder import load_base
        from personarank_dagster.encoding.engine import Engine

        self.store = task.store
        torch.set_num_threads(task.threads)
        self._check_precision(task)
        self.engine = Engine(load_base(task.base, task.device), task.precision, task.side)

    def __call__(self, shard: Path, again: bool) -> EncodedShard:
        """Encode the texts of a file; those that are in the store only where somebody began with them."""
        texts = pl.read_ipc(shard)
        keys = texts.select("high", "low").to_numpy()
        if again:
            missing = VectorStore(self.store.parent, self.store.name).places(keys) < 0
            texts, keys = texts.filter(pl.Series(missing)), keys[missing]
        store = VectorStore(self.store.parent, self.store.name, only_written=True)
        return EncodedShard(texts.height, store.write_texts(texts["text"], keys, self._encode))

    def _encode(self, windows: Iterable[list[str]]) -> Iterator[EncodedTexts]:
        return self.engine.stream(windows)

    @staticmethod
    def _check_precision(task: EncodingTask) -> None:
        from personarank_dagster.encoding.devices import computes_in_bf16

        if task.device == "cuda" and task.precision == "bf16" and not computes_in_bf16(task.device):
            raise EncoderError("engine ray: a GPU of the cluster has no bf16; set gpu.precision to fp32")


def encode_on_ray(
    texts: pl.Series,
    keys: KeyArray,
    task: EncodingTask,
    cluster: Cluster,
    scratch: Path,
    advance: Callable[[int], None],
) -> None:
    """Encode texts into a store. `scratch` is a folder that all nodes share, as the store is.

    Raises what an actor raises. What any of them has finished stays in the store.
    """
    with Pool[Path, EncodedShard](cluster, partial(TextEncoder, task)) as pool:
        shards = write_shards(texts, keys, scratch, number_of_shards(len(texts), pool.room()))
        for done in pool.results(shards):
            advance(done.texts)
            _wait_for(task.store, done.blocks)


def number_of_shards(texts: int, actors: int) -> int:
    """Into how many shards so many texts are cut."""
    wanted = max(actors * SHARDS_PER_ACTOR, -(-texts // MAX_TEXTS))
    return max(1, min(wanted, texts // MIN_TEXTS))


def write_shards(texts: pl.Series, keys: KeyArray, folder: Path, number: int) -> list[Path]:
    """Cut texts, longest first, into so many shards of about as many bytes, one file each."""
    lengths = texts.str.len_bytes().to_numpy().astype(np.int64)
    order = np.argsort(-lengths, kind="stable")
    ends = np.cumsum(lengths[order])
    cuts = np.searchsorted(ends, np.arange(1, number) * (ends[-1] / number))
    paths = []
    for place, rows in enumerate(np.split(order, cuts)):
        if len(rows):
            table = pl.DataFrame({"text": texts.gather(rows), "high": keys[rows, 0], "low": keys[rows, 1]})
            paths.append(folder / f"shard-{place:06}.ipc")
            table.write_ipc(paths[-1])
    return paths


def _wait_for(store: Path, blocks: list[str]) -> None:
    """See the blocks that another machine wrote; raises EncoderError where they do not come."""
    begun = time.monotonic()
    missing = [store / f"{name}.keys.npy" for name in blocks]
    while missing := [path for path in missing if not path.exists()]:
        if time.monotonic() - begun > SIGHT_SECONDS:
            raise EncoderError(
                f"{missing[0]}: was written by a node of the cluster and is not here; out_root must be in a folder "
                "that all nodes share"
            )
        time.sleep(0.1)
