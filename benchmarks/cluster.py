"""Ray against this process on the same cores, once started; and what ten million keys cost the driver.

A cluster of one node with an actor on each core is started here. Both sides take turns.
"""

import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psutil

from benchmarks.generated_lists import (
    INTERACTIONS,
    ITEMS,
    PERSONAS,
    interaction_index,
    persona_index,
    unit_vectors,
    write_candidates,
)
from benchmarks.one_user import MADE_WITH
from benchmarks.reranking import GAMMA
from personarank_dagster.core.encoders import BUNDLED_NAME, BaseModel
from personarank_dagster.defs.graph import output_format
from personarank_dagster.distributed.cluster import Cluster, joined
from personarank_dagster.distributed.encoding import EncodingTask, TextEncoder, number_of_shards, write_shards
from personarank_dagster.distributed.exchange import Exchange
from personarank_dagster.distributed.pool import Pool
from personarank_dagster.distributed.ranking import Recipe, ranked_on_ray
from personarank_dagster.ranking.blending import Blend
from personarank_dagster.ranking.ranker import Ranker, VectorTable, blocks
from personarank_dagster.storage.reranked import spool
from personarank_dagster.storage.scratch import ScratchFolder
from personarank_dagster.vectors.embeddings import CacheTable, read_embeddings, write_embeddings
from personarank_dagster.vectors.text_keys import text_keys
from personarank_dagster.vectors.vector_store import VectorStore

TEXTS, USERS, ROUNDS = 100_000, 100_000, 1
KEYS, ROWS_OF_A_BLOCK, DIMENSION = 10_000_000, 1 << 13, 64
WORDS = np.array(["red", "blue", "lamp", "chair", "warm", "light", "old", "small", "desk", "quiet", "tall", "round"])


def main() -> None:
    """Encoding, and ranking."""
    cluster = Cluster("local")
    with _timed("a cluster on this machine starts"):
        ray = joined(cluster)
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
        _encoding(cluster, Path(folder))
        _ranking(cluster, Path(folder))
        print(f"object store in use: {_object_store():,} bytes")
    ray.shutdown()


def _encoding(cluster: Cluster, folder: Path) -> None:
    """Distinct short texts with MiniLM: by the engine in this process, and by actors."""
    texts = _texts(TEXTS)
    keys = text_keys(texts)
    exchange = Exchange(folder / "exchange")
    base = BaseModel(BUNDLED_NAME, 256, "")
    here, there = (
        EncodingTask(base, "document", folder / name, exchange, "fp32", "cpu", threads)
        for name, threads in (("here", len(os.sched_getaffinity(0))), ("there", 1))
    )
    encoder, store = TextEncoder(here), VectorStore(folder, "here")
    with Pool[str, Any](cluster, partial(TextEncoder, there)) as pool:
        with _timed("encoding: actors start"):
            list(pool.results(write_shards(texts[:64], keys[:64], exchange, pool.room())))
        ways = {
            "local": lambda: store.add_texts(texts, keys, encoder.engine.stream),
            "ray": lambda: _encode(pool, texts, keys, exchange),
        }
        _in_turns(f"encoding {TEXTS:,} texts, MiniLM", ways)
    found = [VectorStore(folder, name) for name in ("here", "there")]
    same = np.array_equal(*(one.vectors(one.places(keys)) for one in found))
    print(f"  same bits: {same}")


def _encode(pool: Pool[str, Any], texts: pl.Series, keys: np.ndarray, exchange: Exchange) -> None:
    for _ in pool.results(write_shards(texts, keys, exchange, number_of_shards(len(texts), pool.room()))):
        pass


def _ranking(cluster: Cluster, folder: Path) -> None:
    """Lists from a file, by one weight, to a table: in blocks in this process, and in shards by actors."""
    rng = np.random.default_rng(0)
    recipe = Recipe(folder / "interactions", folder / "personas", INTERACTIONS, GAMMA)
    _write_cache(recipe.interactions, unit_vectors(rng, USERS * INTERACTIONS, 384), interaction_index(USERS))
    _write_cache(recipe.personas, unit_vectors(rng, ITEMS * PERSONAS, 384), persona_index(ITEMS))
    write_candidates(folder / "lists.parquet", USERS, rng)
    ranker = Ranker.of(*map(read_embeddings, (recipe.interactions, recipe.personas)), k=INTERACTIONS, gamma=GAMMA)
    scan, scratch = pl.scan_parquet(folder / "lists.parquet"), ScratchFolder(folder / "scratch")
    exchange = Exchange(scratch.path)
    with ranked_on_ray(cluster, folder / "lists.parquet", recipe, exchange, scratch) as lists:
        with _timed("ranking: actors start, and rank all lists once"):
            lists.rerank(Blend(0.5))
        ways: dict[str, Callable[[], Any]] = {
            "local": lambda: spool((Blend(0.5).rerank(ranker, one) for one in blocks(scan)), folder / "spool"),
            "ray": lambda: lists.rerank(Blend(0.5)),
        }
        tables = _in_turns(f"ranking {USERS:,} users x 20", ways)
    print(f"  same tables: {tables['local'].lazy().collect().equals(tables['ray'].collect())}")


def _write_cache(folder: Path, vectors: np.ndarray, index: pl.DataFrame) -> None:
    folder.mkdir()
    write_embeddings(folder, VectorTable(vectors, index))


def keys() -> None:
    """Texts, their keys and shards, and a store in blocks: what the driver has of ten million, in its own seconds."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as name:
        folder = Path(name)
        with _cost("texts of some 30 bytes are made"):
            texts = _texts(KEYS)
        with _cost("their keys"):
            wanted = text_keys(texts)
        with _cost("written as shards"):
            write_shards(texts, wanted, Exchange(folder), number_of_shards(KEYS, 64))
        del texts
        with _cost(f"(written as blocks of {ROWS_OF_A_BLOCK:,})"):
            _write_blocks(folder, wanted)
        with _cost("blocks are listed"):
            store = VectorStore(folder, "store")
        with _cost("all keys are found in them"):
            assert (store.places(wanted) >= 0).all()
        with _cost("they are joined"):
            store.join_blocks()
        with _cost("all keys are found in one block"):
            assert (store.places(wanted) >= 0).all()
        del wanted
        with _cost(f"one cache of {DIMENSION} dimensions is checked, hashed and written"):
            _publish_cache(folder / "cache", np.load(next(store.folder.glob("*.vectors.npy")), mmap_mode="r"))


def _write_blocks(folder: Path, wanted: np.ndarray) -> None:
    vectors = np.full((ROWS_OF_A_BLOCK, DIMENSION), DIMENSION**-0.5, np.float16)
    store = VectorStore(folder, "store", only_written=True)
    for begin in range(0, len(wanted), ROWS_OF_A_BLOCK):
        own = wanted[begin : begin + ROWS_OF_A_BLOCK].T
        store.write_block(np.concatenate([own, np.zeros((1, own.shape[1]), np.uint64)]), vectors.__getitem__)


def _publish_cache(folder: Path, vectors: np.ndarray) -> None:
    folder.mkdir()
    table = CacheTable(vectors, persona_index(KEYS, each=1), MADE_WITH)
    form = output_format("persona_cache", "amazon")
    form.check("persona_cache", table)
    form.version_of(table)
    form.write(table, folder)


def _texts(number: int) -> pl.Series:
    """Distinct texts of four words and a number."""
    words = WORDS[np.random.default_rng(0).integers(0, len(WORDS), (4, number))]
    table = pl.DataFrame([pl.Series(str(place), some) for place, some in enumerate(words)]).with_row_index()
    return table.select(pl.concat_str(*"0123", "index", separator=" "))["0"]


def _in_turns(what: str, ways: dict[str, Callable[[], Any]]) -> dict[str, Any]:
    """Print what each takes, and the speed of Ray beside this process; what each gave at last."""
    taken: dict[str, list[np.ndarray]] = {name: [] for name in ways}
    given = {}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            started = _clocks()
            given[name] = way()
            taken[name].append(_clocks() - started)
    for clock, unit in enumerate(("s", "s of the processor")):
        own = {name: [each[clock] for each in every] for name, every in taken.items()}
        ratios = [local / ray for local, ray in zip(own["local"], own["ray"], strict=True)]
        told = ", ".join(f"{name} {statistics.median(each):.1f}" for name, each in own.items())
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(f"{what}, {unit}: {told}; local / ray {statistics.median(ratios):.2f} ({spread})", flush=True)
    return given


def _clocks() -> np.ndarray:
    """Seconds on the wall, and of the processor: of this process, and of the cluster that it started."""
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return np.array([time.perf_counter(), sum(sum(process.cpu_times()[:2]) for process in processes)])


def _object_store() -> int:
    """Bytes in Ray's own store of objects."""
    import ray
    from ray._private.internal_api import get_memory_info_reply, get_state_from_address

    state = get_state_from_address(ray.get_runtime_context().gcs_address)
    used: int = get_memory_info_reply(state).store_stats.object_store_bytes_used
    return used


@contextmanager
def _timed(what: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    print(f"{what}: {time.perf_counter() - started:.1f} s", flush=True)


@contextmanager
def _cost(what: str) -> Iterator[None]:
    """Print seconds of the processor, and the highest memory so far."""
    started = time.process_time()
    yield
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{KEYS:,} {what}: {time.process_time() - started:.1f} s, peak {peak:.2f} GB", flush=True)
