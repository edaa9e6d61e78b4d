"""What a run and its actors give each other through a bucket."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from personarank_dagster.distributed import bucket_exchange as module
from personarank_dagster.distributed.bucket_exchange import BucketExchange, begin_exchange
from personarank_dagster.storage.bucket import bucket_path
from personarank_dagster.storage.manifests import Provenance
from personarank_dagster.storage.versions import Version, VersionStore
from personarank_dagster.vectors.text_keys import text_keys
from personarank_dagster.vectors.vector_store import VectorStore
from tests.object_store import object_store
from tests.vectors.test_vector_store import CountingEncoder, lengths


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with object_store() as address:
        yield f"{address}/amazon"


@pytest.fixture
def driver(bucket: str, tmp_path: Path) -> Iterator[BucketExchange]:
    (tmp_path / "scratch").mkdir()
    exchange = begin_exchange(tmp_path, bucket, tmp_path / "scratch")
    yield exchange
    exchange.close()
    assert keys(bucket) == []


@pytest.fixture
def actor(driver: BucketExchange, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BucketExchange]:
    monkeypatch.setenv("PERSONARANK_NODE_DIR", str(tmp_path / "node"))
    module._scratch_of_process.cache_clear()
    exchange = driver.on_node()
    assert isinstance(exchange, BucketExchange)
    yield exchange
    module._scratch_of_process.cache_clear()


def keys(bucket: str) -> list[str]:
    exchange = bucket_path(bucket) / "exchange"
    return [str(key) for key in exchange.fs.find(exchange.path)]


def write_block(exchange: BucketExchange, store: Path, text: str) -> list[str]:
    folder, texts = exchange.store(store), pl.Series([text])
    blocks = VectorStore(folder.parent, folder.name, only_written=True)
    names = blocks.write_texts(texts, text_keys(texts), CountingEncoder())
    exchange.send(store, names)
    return names


def test_a_file_goes_from_one_folder_to_another(driver: BucketExchange, actor: BucketExchange) -> None:
    with driver.written("parts/one") as path:
        path.write_text("1")
    assert (driver.folder, actor.folder.is_relative_to(driver.folder)) != (actor.folder, True)
    assert actor.file("parts/one").read_text() == "1"
    actor.drop("parts/one")
    assert [path.name for path in actor.folder.rglob("*") if path.is_file()] == [".lock"]


def test_blocks_come_into_the_store_and_leave_the_bucket(
    driver: BucketExchange, actor: BucketExchange, bucket: str, tmp_path: Path
) -> None:
    store = tmp_path / "vectors" / "model"
    driver.receive(store, write_block(actor, store, "four"))
    assert lengths(VectorStore(store.parent, "model"), ["four"]) == [4]
    assert [key.rpartition("/")[2] for key in keys(bucket)] == [".owner"]


def test_blocks_of_a_driver_that_is_gone_are_fetched_by_the_next(
    driver: BucketExchange, actor: BucketExchange, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_block(actor, tmp_path / "vectors" / "model", "four")
    begin_exchange(tmp_path / "beside", bucket, tmp_path).close()
    assert not (tmp_path / "beside").exists()
    monkeypatch.setattr(module, "is_dead", lambda owner: True)
    begin_exchange(tmp_path / "next", bucket, tmp_path).close()
    assert lengths(VectorStore(tmp_path / "next" / "vectors", "model"), ["four"]) == [4]


def test_a_node_has_one_version_and_reads_it_by_the_drivers_path(
    driver: BucketExchange, actor: BucketExchange, bucket: str, tmp_path: Path
) -> None:
    for content in ("1", "2"):
        version = publish(bucket, tmp_path / "copies", content)
        path = actor.version(version.directory / "file")
        assert path.read_text() == content
        assert path.is_relative_to(tmp_path / "node")
        assert [one.name for one in path.parents[1].iterdir()] == [version.name]


def test_a_path_that_is_no_version_stays_as_it_is(actor: BucketExchange, tmp_path: Path) -> None:
    assert actor.version(Path("bundled:all-MiniLM-L6-v2")) == Path("bundled:all-MiniLM-L6-v2")
    assert replace(actor, copies=tmp_path / "other").version(tmp_path / "model") == tmp_path / "model"


def publish(bucket: str, copies: Path, content: str) -> Version:
    store = VersionStore(bucket_path(bucket) / "versions", "personas", "amazon", copies=copies)

    def write(folder: Path) -> dict[str, int]:
        (folder / "file").write_text(content)
        return {}

    made_from = Provenance(code_version="1", settings={}, inputs={})
    return store.publish(write, run_id="run", data_version=f"{content * 8}", provenance=made_from)
