from pathlib import Path

import numpy as np
import polars as pl
import pytest

from personarank_dagster.core.encoders import BaseModel
from personarank_dagster.core.errors import ConfigError
from personarank_dagster.distributed import exchange as module
from personarank_dagster.distributed.cluster import Cluster
from personarank_dagster.distributed.encoding import (
    EncodingTask,
    TextEncoder,
    encode_on_ray,
    number_of_shards,
    write_shards,
)
from personarank_dagster.distributed.exchange import Exchange
from personarank_dagster.vectors.text_keys import text_keys
from personarank_dagster.vectors.vector_store import VectorStore
from tests.tiny_models import write_tiny_model

COLOURS, THINGS = ("red", "blue"), ("lamp", "chair", "desk")
TEXTS = pl.Series(
    [f"the {colour} {thing} {times * 'the '}" for times in range(30) for colour in COLOURS for thing in THINGS]
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return BaseModel(write_tiny_model(tmp_path_factory.mktemp("tiny")), 32, "")


def task(base: BaseModel, folder: Path) -> EncodingTask:
    return EncodingTask(base, "document", folder / "model", Exchange(folder / "exchange"), "fp32", "cpu", 1)


def here(base: BaseModel, folder: Path) -> np.ndarray:
    """The vectors of the texts, encoded without a cluster."""
    store = VectorStore(folder, "here")
    store.add_texts(TEXTS, text_keys(TEXTS), TextEncoder(task(base, folder)).engine.stream)
    return store.vectors(store.places(text_keys(TEXTS)))


def test_shards_hold_every_text_once_longest_first_and_about_as_many_bytes(tmp_path: Path) -> None:
    exchange = Exchange(tmp_path)
    names = write_shards(TEXTS, text_keys(TEXTS), exchange, 4)
    shards = [pl.read_ipc(exchange.file(name))["text"] for name in names]
    assert sorted(pl.concat(shards)) == sorted(TEXTS)
    lengths = pl.concat(shards).str.len_bytes()
    assert lengths.equals(lengths.sort(descending=True))
    sizes = [shard.str.len_bytes().sum() for shard in shards]
    assert max(sizes) - min(sizes) < 2 * lengths.max()


@pytest.mark.parametrize(
    ("texts", "actors", "number"), [(1, 4, 1), (1_000, 4, 7), (100_000, 2, 16), (10**8, 8, 3_052)]
)
def test_there_are_some_shards_for_each_actor_and_none_is_large(texts: int, actors: int, number: int) -> None:
    assert number_of_shards(texts, actors) == number


def test_vectors_of_a_cluster_have_the_bits_of_this_machine(address: str, base: BaseModel, tmp_path: Path) -> None:
    import ray

    counts: list[int] = []
    encode_on_ray(TEXTS, text_keys(TEXTS), task(base, tmp_path), Cluster(address), counts.append)
    store = VectorStore(tmp_path, "model")
    assert np.array_equal(store.vectors(store.places(text_keys(TEXTS))), here(base, tmp_path))
    assert sum(counts) == len(TEXTS) == len(store)
    there, left = ray.cluster_resources(), ray.available_resources()
    assert left["object_store_memory"] == there["object_store_memory"]


def test_a_shard_that_is_repeated_encodes_what_is_not_there(base: BaseModel, tmp_path: Path) -> None:
    encoder = TextEncoder(task(base, tmp_path))
    (shard,) = write_shards(TEXTS, text_keys(TEXTS), encoder.exchange, 1)
    assert encoder(shard, False).texts == len(TEXTS)
    assert encoder(shard, True).texts == 0
    assert len(VectorStore(tmp_path, "model")) == len(TEXTS)


def test_a_folder_that_nodes_do_not_share_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SIGHT_SECONDS", 0)
    with pytest.raises(ConfigError, match="was written by another node of the cluster and is not here"):
        Exchange(tmp_path).receive(tmp_path / "model", ["block"])
