import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from personarank_dagster import Reranker
from personarank_dagster.core import schemas
from personarank_dagster.core.errors import InputError, StorageError
from personarank_dagster.defs.graph import output_format
from personarank_dagster.ranking.ranker import VectorTable, rerank
from personarank_dagster.serving.reranker import LOOK_SECONDS, _Caches
from personarank_dagster.storage.versions import Provenance, VersionStore
from personarank_dagster.vectors.embeddings import CacheTable, MadeWith
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
    time.sleep(LOOK_SECONDS)
    assert [place.persona_score for place in reranker.rerank("u4", LIST)] == expected["persona_score"].to_list()


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
    with pytest.raises(InputError, match="an item is listed twice"):
        reranker.rerank("u1", [("i1", 1.0), ("i1", 0.5)])
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
