"""The whole way with `blend: learned`, by the commands that a user types, on a sample that is large enough."""

import json
from collections.abc import Mapping
from typing import Any

import polars as pl
import pytest

from personarank_dagster import Reranker
from personarank_dagster.ranking.signals import SIGNALS
from personarank_dagster.sample.files import write_sample_files
from personarank_dagster.storage.tables import TABLE
from tests.killable import NO_PICTURES, TinyWorkspace, edit

NUM_USERS = 160
LIST_METRICS = {"COVERAGE@10", "GINI@10", "NOVELTY@10", "DIVERSITY@10"}
Lists = list[dict[str, Any]]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> TinyWorkspace:
    workspace = TinyWorkspace(tmp_path_factory.mktemp("learned"))
    write_sample_files(workspace.folder / "data" / "1", num_users=NUM_USERS, seed=1)
    _run(workspace, constants=NO_PICTURES)
    edit(workspace.folder / "configs/amazon/rerank.yaml", {"blend: alpha": "blend: learned"})
    edit(
        workspace.folder / "configs/amazon/train.yaml",
        {"loss: personas": "loss: listwise", "pairs: selections": "pairs: histories"},
    )
    _run(workspace)
    return workspace


@pytest.fixture(scope="module")
def lists(workspace: TinyWorkspace) -> Lists:
    path = workspace.folder / "outputs/amazon/rerank/reranked.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_place_says_what_its_signals_add(lists: Lists) -> None:
    assert {one["alpha"] for one in lists} == {None}
    for place in (place for one in lists for place in one["results"]):
        assert list(place["signals"]) == list(SIGNALS)
        assert sum(place["signals"].values()) == pytest.approx(place["score"], abs=1e-5)


def test_the_lists_rest_on_the_histories_and_a_fixed_weight_does_not(workspace: TinyWorkspace) -> None:
    version = workspace.current()["reranked_candidates"]
    assert {"histories", "raw/gt"} <= version.manifest.provenance.inputs.keys()
    kept = (path / "manifest.json" for path in version.directory.parent.iterdir() if path.is_dir())
    inputs = [json.loads(path.read_text())["provenance"]["inputs"] for path in kept if path.exists()]
    assert sorted("histories" in names for names in inputs) == [False, True]


def test_the_manifest_says_weights_errors_and_what_is_lost_without_each_signal(workspace: TinyWorkspace) -> None:
    details = workspace.current()["reranked_candidates"].manifest.details
    for name in SIGNALS:
        assert {f"serving weight of {name}", f"standard error of {name}"} <= details.keys()
        assert f"NDCG@20 lost without {name}" in details


def test_metrics_have_the_controls_that_were_learned_anew(workspace: TinyWorkspace) -> None:
    document = json.loads((workspace.folder / "outputs/amazon/rerank/metrics.json").read_text())
    assert {"shuffled", "without_personas", "content", "persona_lift_interval", "lift_p"} <= document.keys()
    assert {"RECALL@10", "MAP@10", *LIST_METRICS} <= document["more"]["reranked"].keys()
    places = pl.read_parquet(workspace.current()["rerank_metrics"].directory / "places.parquet")
    assert places.height == document["users"]
    assert document["reranked"]["HIT@10"] == pytest.approx(places["reranked"].is_between(1, 10).mean())


def test_a_service_ranks_a_new_user_by_the_serving_weights(
    workspace: TinyWorkspace, lists: list[dict[str, Any]]
) -> None:
    details = workspace.current()["reranked_candidates"].manifest.details
    candidates = sorted(lists[0]["results"], key=lambda place: place["candidate_rank"])
    pairs = [(place["item_id"], place["candidate_score"]) for place in candidates]
    found = Reranker.open(workspace.folder / "outputs" / "amazon").rerank("nobody", pairs)
    histories = pl.read_parquet(workspace.current()["histories"].directory / TABLE)
    counts = dict(histories.group_by("item_id").len().iter_rows())
    popularity = pl.Series([counts.get(item, 0) for item, _ in pairs]).log1p()
    parts = (popularity - popularity.mean()) * details["serving weight of popularity"]
    by_item = {place.item_id: place for place in found}
    assert [by_item[item].signals["popularity"] for item, _ in pairs] == pytest.approx(parts.to_list(), abs=1e-5)
    assert found.note == "unknown user nobody; ranked by the retriever and popularity alone"


def test_an_explanation_says_the_score_and_what_it_is_made_of(
    workspace: TinyWorkspace, lists: list[dict[str, Any]]
) -> None:
    told = workspace.call("explain", "--partition", "amazon", "--user", lists[0]["user_id"], "--top", "1")
    assert "learned blend" in told.output
    assert "retriever " in told.output
    assert "personas " in told.output


def test_two_versions_are_compared_user_by_user(workspace: TinyWorkspace) -> None:
    folder = workspace.current()["rerank_metrics"].directory.parent
    first, second = sorted(path.name for path in folder.iterdir() if (path / "places.parquet").exists())[:2]
    found = json.loads(workspace.call("compare", "amazon", first, second, "--json").output)
    places = [pl.read_parquet(folder / name / "places.parquet")["reranked"] for name in (first, second)]
    hits = [float(one.is_between(1, 5).mean()) for one in places]
    row = next(row for row in found["metrics"] if (row["metric"], row["k"]) == ("HIT", 5))
    assert (row["first"], row["second"]) == pytest.approx(hits)
    assert row["lift"] == pytest.approx(hits[1] / hits[0] - 1)
    assert row["low"] <= row["lift"] <= row["high"]
    assert (found["users"], found["others"]) == (len(places[0]), 0)
    assert f"amazon · {len(places[0])} users" in workspace.call("compare", "amazon", first, second).output


def test_a_version_that_is_not_there_cannot_be_compared(workspace: TinyWorkspace) -> None:
    ended = workspace.call("compare", "amazon", "nothing", "neither")
    assert ended.code == 2
    assert "nothing" in ended.output


def test_few_users_are_refused_with_the_reason(workspace: TinyWorkspace) -> None:
    more = {"personarank_dagster.ranking.cross_fitting:MIN_LESSONS": 1000}
    failed = workspace.call("run", "--select", "reranked_candidates", "--force", constants=more)
    assert failed.code == 1
    assert "blend learned needs 1000 users whose list holds their ground truth, got" in failed.output
    assert "write blend: alpha" in failed.output


def _run(workspace: TinyWorkspace, constants: Mapping[str, float] | None = None) -> None:
    ended = workspace.call("run", constants=constants)
    assert ended.code == 0, ended.output
