import re
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from upath import UPath

from personarank_dagster import Reranker
from personarank_dagster.core import schemas
from personarank_dagster.core.errors import InputError, StorageError
from personarank_dagster.defs.graph import output_format
from personarank_dagster.ranking.ranker import VectorTable, rerank
from personarank_dagster.serving.following import LOOK_SECONDS
from personarank_dagster.serving.given_histories import Interaction
from personarank_dagster.serving.reranker import _Caches
from personarank_dagster.storage.versions import Provenance, VersionStore
from personarank_dagster.vectors.embeddings import CacheTable, MadeWith
from tests.object_store import object_store
from tests.ranking.test_ranker import make_candidates, make_interactions, make_personas

SETTINGS = {"serving_alpha": 0.7, "user_max_k": 3, "gamma": 0.6}
USERS = {f"u{n}": n for n in range(1, 6)}
LIST = [(f"i{n}", 1.0 - n / 10) for n in range(1, 7)]


def publish(root: Path, asset: str, value=None, details: dict | None = None) -> None:
    form = output_format(asset, "amazon")
    store = VersionStore(root / "versions", asset, "amazon")
    made_from = Provenance(code_version="1", inputs={})
    write = (lambda folder: form.write(value, folder)) if details is None else (lambda folder: details)
    store.publish(write, run_id="", data_version="e", provenance=made_from)


def publish_caches(root: Path, seed: int, encoder: str = "e", asset: str | None = None) -> dict[str, VectorTable]:
    rng = np.random.default_rng(seed)
    tables = {
        "interaction_cache": make_interactions(rng, USERS),
        "persona_cache": make_personas(rng, {f"i{n}": n % 4 for n in range(1, 6)}),
    }
    about = {"encoder": encoder, "model": "m", "template_version": "1", "mode": "aspects", "fields": "N"}
    made_with = MadeWith(**about, dimension=5, max_len=8, truncated_share=0)
    for name in [asset] if asset else tables:
        publish(root, name, CacheTable(tables[name].vectors, tables[name].index, made_with))
    return tables


@pytest.fixture
def out_root(tmp_path: Path) -> Path:
    root = tmp_path / "outputs" / "amazon"
    publish_caches(root, 0)
    publish(root, "reranked_candidates", details=SETTINGS)
    publish(root, "trained_encoder", details={})
    persona = dict.fromkeys(schemas.PERSONAS, "x") | {"unique_persona_id": "i1_P0", "name": "Drummer"}
    publish(root, "personas", pl.DataFrame([persona], schema=schemas.PERSONAS))
    return root


def becomes(condition, seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
    return found


def batch(tables: dict[str, VectorTable], user: str) -> pl.DataFrame:
    return rerank(make_candidates({user: LIST}), *tables.values(), k=3, gamma=0.6, alpha=0.7)


@pytest.mark.parametrize("user", ["u1", "u4", "nobody"])
def test_one_user_is_ranked_and_explained_as_in_the_batch(out_root: Path, user: str) -> None:
    places = Reranker.open(out_root).rerank(user, LIST)
    expected = batch(publish_caches(out_root, 0), user)
    for column in ("item_id", "rank", "candidate_rank", "score", "unique_persona_id", "persona_score"):
        assert [getattr(place, column) for place in places] == expected[column].to_list()
    reasons = [[part["contribution"] for part in parts] for parts in expected["interactions"].to_list()]
    assert [[reason.contribution for reason in place.reasons] for place in places] == reasons


def test_only_the_best_k_are_returned_with_the_same_explanations(out_root: Path) -> None:
    reranker = Reranker.open(out_root)
    whole = reranker.rerank("u4", LIST)
    for k in (0, 1, 3, len(LIST), 100):
        assert reranker.rerank("u4", LIST, k) == whole[:k]
    assert reranker.rerank("u4", []) == []


def test_without_explanations_places_are_the_same_but_for_their_reasons(out_root: Path) -> None:
    reranker = Reranker.open(out_root)
    for k in (0, 2, None):
        told = reranker.rerank("u4", LIST, k)
        assert reranker.rerank("u4", LIST, k, explain=False) == [place._replace(reasons=()) for place in told]


def test_an_unknown_user_keeps_the_candidates_and_is_told(out_root: Path) -> None:
    places = Reranker.open(out_root).rerank("nobody", LIST, k=2)
    assert [place.item_id for place in places] == ["i1", "i2"]
    assert places.note == "unknown user nobody; the candidates keep their order"
    assert Reranker.open(out_root).rerank("u1", LIST).note is None


def test_a_new_version_is_taken_up_when_both_caches_are_there(out_root: Path) -> None:
    reranker = Reranker.open(out_root)
    before = reranker.rerank("u4", LIST)
    publish_caches(out_root, 1, "new", "interaction_cache")
    assert reranker.rerank("u4", LIST) == before
    publish_caches(out_root, 1, "new", "persona_cache")
    expected = batch(publish_caches(out_root, 1, "new"), "u4")
    wanted = expected["persona_score"].to_list()
    assert becomes(lambda: [place.persona_score for place in reranker.rerank("u4", LIST)] == wanted)


def test_threads_share_it_while_versions_change(out_root: Path) -> None:
    reranker = Reranker.open(out_root)
    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(lambda: [reranker.rerank("u4", LIST) for _ in range(200)]) for _ in range(4)]
        new = publish_caches(out_root, 1)
        found = {tuple(place.persona_score for place in places) for one in running for places in one.result()}
    old = publish_caches(out_root, 0)
    # Both caches are by one encoder all the time, so that the new one of users may meet the old one of personas.
    sets = [old, new, old | {"interaction_cache": new["interaction_cache"]}]
    possible = {tuple(batch(tables, "u4").sort("rank")["persona_score"]) for tables in sets}
    assert found <= possible


def test_a_history_of_texts_is_encoded_and_its_places_are_the_reasons(out_root: Path, monkeypatch) -> None:
    tables = publish_caches(out_root, 0)
    own = tables["interaction_cache"].index.filter(user_id="u5")["vector_row"].to_numpy()
    by_text = {f"text {i}": tables["interaction_cache"].vectors[row] for i, row in enumerate(own)}
    encoder = SimpleNamespace(
        encode_query=lambda texts, show_progress_bar: np.array([by_text[text] for text in texts], np.float32)
    )
    monkeypatch.setattr(_Caches, "encoder", encoder)
    reranker = Reranker.open(out_root)
    known, given = reranker.rerank("u5", LIST), reranker.rerank(history=list(by_text), candidates=LIST)
    assert [place.item_id for place in given] == [place.item_id for place in known]
    assert {reason.interaction for place in given for reason in place.reasons} <= {2, 3, 4}
    assert (
        reranker.rerank(history=[], candidates=LIST).note == "the history is empty; the candidates keep their order"
    )


def test_wrong_calls_and_folders_are_named(out_root: Path) -> None:
    reranker = Reranker.open(out_root)
    with pytest.raises(InputError, match="needs either user_id or history"):
        reranker.rerank(candidates=LIST)
    for score in (float("nan"), float("inf"), -float("inf")):
        with pytest.raises(InputError, match=f"the score of i2 must be a finite number, got {score}"):
            reranker.rerank("u1", [("i1", 1.0), ("i2", score)])
    with pytest.raises(StorageError, match="give the folder of one dataset: amazon"):
        Reranker.open(out_root.parent)
    assert reranker.rerank("u1", []) == []
    assert reranker.persona("i1_P0")["name"] == "Drummer"


def test_the_documented_example_runs_without_dagster_and_torch(out_root: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "serving.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    told = "import sys; print([p.item_id for p in places], {'dagster', 'torch'} & set(sys.modules))"
    code = [sys.executable, "-c", example + told]
    result = subprocess.run(code, cwd=out_root.parents[1], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() in ("['i1', 'i2'] set()", "['i2', 'i1'] set()")


def test_padding_and_repeated_items_are_left_out_as_in_the_batch_and_counted(out_root: Path) -> None:
    reranker = Reranker.open(out_root)
    padded = [("[PAD]", 9.0), *LIST[:2], ("[PAD]", 8.0), *LIST, ("[PAD]", float("nan"))]
    places = reranker.rerank("u4", padded)
    assert places == reranker.rerank("u4", LIST)
    assert places.note == "left out: 3 [PAD], 2 repeated"


def test_no_call_waits_while_a_new_version_is_opened(out_root: Path, monkeypatch) -> None:
    reranker, open_now = Reranker.open(out_root), _Caches.open
    opening, done = threading.Event(), threading.Event()

    def slow(published):
        opening.set()
        assert done.wait(10)
        return open_now(published)

    monkeypatch.setattr(_Caches, "open", slow)
    before = reranker.rerank("u4", LIST)
    publish_caches(out_root, 1)
    assert becomes(lambda: reranker.rerank("u4", LIST) == before and opening.is_set())
    done.set()
    assert becomes(lambda: reranker.rerank("u4", LIST).version != before.version)


def test_half_of_a_refresh_is_opened_once_for_each_change_of_the_pointers(out_root: Path, monkeypatch) -> None:
    attempts, open_now = [], _Caches.open
    monkeypatch.setattr(_Caches, "open", lambda published: attempts.append(1) or open_now(published))
    reranker = Reranker.open(out_root)
    publish_caches(out_root, 1, "new", "interaction_cache")
    assert becomes(lambda: reranker.rerank("u4", LIST) and reranker.following.problem)
    for _ in range(20):
        time.sleep(LOOK_SECONDS)
        reranker.rerank("u4", LIST)
    assert len(attempts) == 2
    assert "both caches must be by one encoder" in str(reranker.following.problem)


def test_whatever_goes_wrong_while_a_version_is_opened_what_is_held_is_served(out_root: Path, monkeypatch) -> None:
    reranker = Reranker.open(out_root)
    before = reranker.rerank("u4", LIST)
    monkeypatch.setattr(_Caches, "open", lambda published: {}["nothing of the kind"])
    publish_caches(out_root, 1)
    assert becomes(lambda: reranker.rerank("u4", LIST) == before and reranker.following.problem)
    assert "nothing of the kind" in str(reranker.following.problem)


def test_what_is_held_is_served_while_a_pointer_is_missing(out_root: Path) -> None:
    reranker = Reranker.open(out_root)
    before = reranker.rerank("u4", LIST)
    (out_root / "versions/persona_cache/amazon/CURRENT").unlink()
    assert becomes(lambda: reranker.rerank("u4", LIST) == before and reranker.following.problem)
    publish_caches(out_root, 1)
    assert becomes(lambda: reranker.rerank("u4", LIST) != before)


def test_a_damaged_encoder_that_is_newer_and_unused_does_no_harm(out_root: Path) -> None:
    store = VersionStore(out_root / "versions", "trained_encoder", "amazon")
    publish(out_root, "trained_encoder", details={})
    (store.root / store.names()[-1] / "manifest.json").write_bytes(b"{")
    reranker = Reranker.open(out_root)
    assert reranker.following.current().encoder_path == store.root / store.names()[0]
    shutil.rmtree(store.root)
    assert Reranker.open(out_root).rerank("u4", LIST) == reranker.rerank("u4", LIST)


def test_an_item_of_a_history_is_what_users_said_of_it_else_its_personas(out_root: Path) -> None:
    interactions, personas = publish_caches(out_root, 0).values()
    history = [Interaction("x"), Interaction("i2"), Interaction("unknown")]
    ranker, places = Reranker.open(out_root).following.current().ranker_of(history)
    own = personas.index.filter(item_id="i2")["vector_row"].to_numpy()
    means = [interactions.vectors.mean(axis=0), personas.vectors[own].mean(axis=0)]
    assert places == [0, 1]
    expected = [mean / np.linalg.norm(mean) for mean in means]
    np.testing.assert_allclose(ranker.interactions.vectors, expected, atol=2e-3)


def test_times_order_a_history_of_items_and_dislikes_are_left_out(out_root: Path) -> None:
    publish_caches(out_root, 0)
    caches = replace(Reranker.open(out_root).following.current(), min_rating=3.0)
    history = [Interaction("i1", 5, 30), Interaction("i2", 1, 20), Interaction("i3", None, 10)]
    assert caches.ranker_of(history)[1] == [2, 0]


def test_a_history_without_anything_known_keeps_the_candidates(out_root: Path) -> None:
    places = Reranker.open(out_root).rerank(history=[Interaction("nothing", 5)], candidates=LIST)
    assert [place.item_id for place in places] == [item for item, _ in LIST]
    assert places.note == "nothing of the history is known and liked; the candidates keep their order"


def test_outputs_in_a_bucket_are_copied_and_followed(out_root: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("personarank_dagster.serving.following.FAR_LOOK_SECONDS", 0.05)
    expected = Reranker.open(out_root).rerank("u4", LIST)
    with object_store() as address:
        bucket = UPath(address)
        bucket.fs.put(str(out_root / "versions"), f"{bucket.path.rstrip('/')}/amazon/versions", recursive=True)
        reranker = Reranker.open(f"{address}/amazon", copies=tmp_path / "copies")
        assert reranker.rerank("u4", LIST) == expected
        publish_caches(out_root, 1)
        bucket.fs.put(str(out_root / "versions"), f"{bucket.path.rstrip('/')}/amazon", recursive=True)
        assert becomes(lambda: reranker.rerank("u4", LIST).version != expected.version)
    copied = {path.name for path in (tmp_path / "copies/persona_cache/amazon").iterdir() if path.is_dir()}
    assert len(copied) == 2
