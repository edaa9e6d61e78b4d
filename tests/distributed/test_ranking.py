"""Lists that are ranked in shards, by what an actor does: the same as without shards, to the last bit."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from personarank_dagster.distributed import ranking as module
from personarank_dagster.distributed.bucket_exchange import begin_exchange
from personarank_dagster.distributed.cluster import Cluster
from personarank_dagster.distributed.exchange import Exchange
from personarank_dagster.distributed.node_copies import opened_on_node
from personarank_dagster.distributed.ranking import ListShard, ListsOnRay, ListWorker, Recipe, ranked_on_ray
from personarank_dagster.ranking.blending import Blend, measure
from personarank_dagster.ranking.controls import content_places, shuffled_places
from personarank_dagster.ranking.cross_fitting import LearnedBlend, learn
from personarank_dagster.ranking.ranker import Ranker, blocks
from personarank_dagster.storage.scratch import ScratchFolder
from personarank_dagster.storage.tables import table_version
from personarank_dagster.vectors.embeddings import write_embeddings
from tests.object_store import object_store
from tests.ranking.test_ranker import GAMMA, K, make_candidates, make_interactions, make_personas

USERS, ITEMS, LISTED = 150, 40, 12


class PoolHere:
    """What an actor does, in this process; every shard twice, as after a loss."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange

    def room(self) -> int:
        return 3

    def results(self, shards: Sequence[ListShard]) -> Iterator[None]:
        worker = ListWorker(self.exchange)
        for shard in [*shards, *reversed(shards)]:
            yield worker(shard, False)


class Both:
    """One ranker that ranks here, and one whose lists are ranked in shards."""

    def __init__(self, folder: Path, exchange: Exchange | None = None) -> None:
        rng = np.random.default_rng(7)
        caches = {
            "interactions": make_interactions(rng, {f"u{user}": int(rng.integers(0, 5)) for user in range(USERS)}),
            "personas": make_personas(rng, {f"i{item}": int(rng.integers(0, 4)) for item in range(ITEMS)}),
        }
        for name, cache in caches.items():
            (folder / name / "1").mkdir(parents=True)
            write_embeddings(folder / name / "1", cache)
        self.candidates = candidates(rng)
        self.candidates.write_parquet(folder / "lists.parquet")
        self.truth = self.candidates.group_by("user_id", maintain_order=True).agg(pl.col("item_id").last())[:140]
        self.counts = pl.DataFrame({"item_id": [f"i{item}" for item in range(ITEMS)]}).with_row_index("count")
        self.counts = self.counts.select("item_id", pl.col("count").cast(pl.Float64))
        self.here = Ranker.of(*caches.values(), k=K, gamma=GAMMA)
        recipe = Recipe(folder / "interactions/1", folder / "personas/1", K, GAMMA)
        scratch = ScratchFolder(folder / "scratch")
        exchange = exchange or Exchange(scratch.path)
        self.lists = ListsOnRay(PoolHere(exchange), folder / "lists.parquet", recipe, exchange, scratch)  # type: ignore[arg-type]
        self.sharded = Ranker.of(*caches.values(), k=K, gamma=GAMMA, elsewhere=self.lists)


def candidates(rng: np.random.Generator) -> pl.DataFrame:
    scores = np.sort(rng.random((USERS, LISTED)))[:, ::-1]
    return make_candidates(
        {
            f"u{user}": [(f"i{item}", float(score)) for item, score in zip(items, scores[user], strict=True)]
            for user, items in enumerate(rng.permuted(np.tile(np.arange(ITEMS), (USERS, 1)), axis=1)[:, :LISTED])
        }
    )


@pytest.fixture
def both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Both:
    monkeypatch.setattr(module, "MIN_PAIRS", 100)
    monkeypatch.setenv("PERSONARANK_NODE_DIR", str(tmp_path / "node"))
    return Both(tmp_path)


def same_lists(both: Both, blend: Blend | LearnedBlend) -> bool:
    here = pl.concat(blend.rerank(both.here, block) for block in blocks(both.candidates))
    return table_version(both.lists.rerank(blend)) == table_version(here)


def test_lists_by_one_weight_are_the_same(both: Both) -> None:
    assert same_lists(both, Blend(0.3))


def test_a_weight_that_is_chosen_and_its_lists_are_the_same(both: Both) -> None:
    found = [measure(one, both.candidates, both.truth, alpha="auto", k=5) for one in (both.here, both.sharded)]
    assert found[0].places.tolist() == found[1].places.tolist()
    assert found[0].blend.folds == found[1].blend.folds
    assert same_lists(both, found[1].blend)


def test_weights_that_are_learned_and_their_lists_are_the_same(both: Both) -> None:
    found = [learn(one, both.candidates, both.truth, counts=both.counts, k=5) for one in (both.here, both.sharded)]
    assert found[0].places.tolist() == found[1].places.tolist()
    assert np.array_equal(found[0].blend.folds, found[1].blend.folds)
    assert same_lists(both, found[1].blend)


def test_actors_rank_as_this_process_does(both: Both, address: str) -> None:
    where = both.lists.lists, both.lists.recipe, both.lists.exchange, both.lists.scratch
    with ranked_on_ray(Cluster(address), *where) as both.lists:
        assert same_lists(both, Blend(0.3))


def test_lists_that_go_through_a_bucket_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MIN_PAIRS", 500)
    monkeypatch.setenv("PERSONARANK_NODE_DIR", str(tmp_path / "node"))
    with object_store() as bucket:
        scratch = ScratchFolder(tmp_path / "driver")
        both = Both(tmp_path, begin_exchange(tmp_path, bucket, scratch.path))
        found = learn(both.sharded, both.candidates, both.truth, counts=both.counts, k=5)
        assert same_lists(both, found.blend)


def test_controls_are_the_same(both: Both) -> None:
    for control in (shuffled_places, content_places):
        places = [
            control(one, both.candidates, both.truth, lambda *lists: measure(*lists, alpha=0.5, k=5))
            for one in (both.here, both.sharded)
        ]
        assert places[0].equals(places[1])


def test_a_node_copies_a_cache_once_and_keeps_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSONARANK_NODE_DIR", str(tmp_path / "node"))
    for version in ("1", "2"):
        (tmp_path / "cache" / version).mkdir(parents=True)
        (tmp_path / "cache" / version / "file").write_text(version)
        opened = [opened_on_node(tmp_path / "cache" / version, lambda copy: copy / "file") for _ in range(2)]
        assert opened[0] == opened[1]
        assert opened[0].read_text() == version
    assert copies_in(tmp_path) == ["2"]


def test_copies_of_what_is_gone_go_with_the_next_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSONARANK_NODE_DIR", str(tmp_path / "node"))
    for cache in ("old", "new"):
        (tmp_path / cache / cache).mkdir(parents=True)
        opened_on_node(tmp_path / cache / cache, lambda copy: copy)
        shutil.rmtree(tmp_path / "old", ignore_errors=True)
    assert copies_in(tmp_path) == ["new"]


def copies_in(folder: Path) -> list[str]:
    return [path.name for path in (folder / "node").glob("*/*") if path.is_dir()]


def test_no_lists_are_no_lists(both: Both, tmp_path: Path) -> None:
    both.candidates.clear().write_parquet(tmp_path / "lists.parquet")
    both.candidates = both.candidates.clear()
    assert same_lists(both, Blend(0.3))
