"""Encode on a cluster: actors write blocks of vectors into the store themselves, and say which.

What travels through Ray is names and counts: its own store of objects stays empty, and the store of vectors is the
checkpoint.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from personarank_dagster.core.encoders import BaseModel, EncodedTexts, Precision, Side
from personarank_dagster.core.errors import EncoderError
from personarank_dagster.distributed.cluster import Cluster
from personarank_dagster.distributed.exchange import Exchange
from personarank_dagster.distributed.pool import Pool
from personarank_dagster.vectors.text_keys import KeyArray
from personarank_dagster.vectors.vector_store import VectorStore

# Texts of a shard: enough for an actor to fill its batches, few enough that no work is lost; and shards per actor, so
# that the last of them end at about the same time.
MIN_TEXTS, MAX_TEXTS, SHARDS_PER_ACTOR = 128, 1 << 15, 8


@dataclass(frozen=True)
class EncodingTask:
    """What an actor is to encode texts with, into which store, and where it finds them."""

    base: BaseModel
    side: Side
    store: Path
    exchange: Exchange
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

        self.task, self.exchange = task, task.exchange.on_node()
        torch.set_num_threads(task.threads)
        self._check_precision(task)
        base = replace(task.base, source=str(self.exchange.version(Path(task.base.source))))
        self.engine = Engine(load_base(base, task.device), task.precision, task.side)

    def __call__(self, shard: str, again: bool) -> EncodedShard:
        """Encode the texts of a file; where somebody began with them, those that the store has not."""
        folder = self.exchange.store(self.task.store)
        texts, keys = self._texts(shard)
        if again:
            texts, keys = missing_texts(folder, texts, keys)
        blocks = VectorStore(folder.parent, folder.name, only_written=True).write_texts(texts, keys, self._encode)
        self.exchange.send(self.task.store, blocks)
        return EncodedShard(len(texts), blocks)

    def _texts(self, shard: str) -> tuple[pl.Series, KeyArray]:
        table = pl.read_ipc(self.exchange.file(shard))
        self.exchange.drop(shard)
        return table["text"], table.select("high", "low").to_numpy()

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
    advance: Callable[[int], None],
) -> None:
    """Encode texts into a store.

    Raises what an actor raises. What any of them has finished stays in the store.
    """
    with Pool[str, EncodedShard](cluster, partial(TextEncoder, task)) as pool:
        shards = write_shards(texts, keys, task.exchange, number_of_shards(len(texts), pool.room()))
        for done in pool.results(shards):
            advance(done.texts)
            task.exchange.receive(task.store, done.blocks)


def missing_texts(store: Path, texts: pl.Series, keys: KeyArray) -> tuple[pl.Series, KeyArray]:
    """The texts whose vectors a store has not."""
    missing = VectorStore(store.parent, store.name).places(keys) < 0
    return texts.filter(pl.Series(missing)), keys[missing]


def number_of_shards(texts: int, actors: int) -> int:
    """Into how many shards so many texts are cut."""
    wanted = max(actors * SHARDS_PER_ACTOR, -(-texts // MAX_TEXTS))
    return max(1, min(wanted, texts // MIN_TEXTS))


def write_shards(texts: pl.Series, keys: KeyArray, exchange: Exchange, number: int) -> list[str]:
    """Cut texts, longest first, into so many shards of about as many bytes, one file each; their names."""
    lengths = texts.str.len_bytes().to_numpy().astype(np.int64)
    order = np.argsort(-lengths, kind="stable")
    ends = np.cumsum(lengths[order])
    cuts = np.searchsorted(ends, np.arange(1, number) * (ends[-1] / number))
    shards = {f"shard-{place:06}.ipc": rows for place, rows in enumerate(np.split(order, cuts)) if len(rows)}
    for name, rows in shards.items():
        table = pl.DataFrame({"text": texts.gather(rows), "high": keys[rows, 0], "low": keys[rows, 1]})
        with exchange.written(name) as path:
            table.write_ipc(path)
    return list(shards)
