"""The preparation as assets, asked of the stand-in, on a handful of raw reviews."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from personarank_dagster.command_line.preparation import export_prepared
from personarank_dagster.core import schemas
from personarank_dagster.definitions import defs, project
from personarank_dagster.defs.automation.runs import Outcome, execute, plan_run
from personarank_dagster.defs.ranking.explanations import _evidence
from personarank_dagster.preparation.stand_in import StandIn
from personarank_dagster.raw import ingestion
from tests.preparation.test_run import SETTINGS, dataset, served

MADE = 'group:"preparation" or group:"inputs"'
STAGES = ["item_summaries", "review_aspects", "item_personas", "persona_selections"]


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """A Dagster instance; the dataset `amazon` has raw reviews."""
    monkeypatch.setenv("PERSONARANK_CONFIG_DIR", str(dataset(tmp_path, name="amazon")))
    with dg.instance_for_test() as instance:
        yield instance


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    with served(monkeypatch, StandIn()) as stand_in:
        yield stand_in


def run(instance: dg.DagsterInstance) -> Outcome:
    return execute(defs, plan_run(defs, project, "amazon", select=MADE), instance)


@dataclass(frozen=True)
class Made:
    """A folder with such a dataset, and the instance with one run of it."""

    folder: Path
    instance: dg.DagsterInstance
    outcome: Outcome


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    folder = tmp_path_factory.mktemp("made")
    with dg.instance_for_test() as instance:
        with pytest.MonkeyPatch.context() as patch, served(patch, StandIn()):
            patch.setenv("PERSONARANK_CONFIG_DIR", str(dataset(folder, name="amazon")))
            outcome = run(instance)
        yield Made(folder, instance, outcome)


@pytest.fixture
def made(first_run: Made, monkeypatch: pytest.MonkeyPatch) -> Made:
    """The same for all tests that look at what was made."""
    monkeypatch.setenv("PERSONARANK_CONFIG_DIR", str(first_run.folder / "configs"))
    return first_run


def table(asset: str) -> pl.DataFrame:
    outputs = project.outputs("amazon")
    return outputs.format(asset).read(outputs.versions(asset).current().directory)


def numbers(asset: str) -> dict[str, float]:
    return project.versions(asset, "amazon").current().manifest.details


def test_every_table_of_the_graph_is_made_of_raw_reviews(made: Made) -> None:
    assert made.outcome.failures == {}
    assert {one.name for one in made.outcome.checks if one.result == "fail"} == set()
    assert table("personas").equals(table("item_personas").select(*schemas.PERSONAS))
    assert table("histories").height == 16
    assert set(table("ground_truth").rows()) == {(f"user-{user}", f"item-{(user + 4) % 6}") for user in range(4)}
    assert table("candidates")["user_id"].n_unique() == 4
    assert plan_run(defs, project, "amazon", select=MADE).reasons == {}
    rests_on = _evidence(project, "amazon")
    assert set().union(*rests_on.values()) <= set(table("reviews")["review_id"])
    assert rests_on.keys() == set(table("personas")["unique_persona_id"])


def test_what_was_used_is_metadata_of_the_run_and_of_all_runs(made: Made, server: StandIn) -> None:
    first = numbers("item_personas")
    assert (first["questions"], first["calls"], first["failed_attempts"], first["set_aside"]) == (6, 6, 0, 0)
    assert first["tokens_in"] == first["tokens_in_in_all"] > 0
    execute(defs, plan_run(defs, project, "amazon", select="item_personas", force=True), made.instance)
    again = numbers("item_personas")
    assert (again["kept"], again["calls"], again["calls_in_all"]) == (6, 0, 6)


def test_a_changed_prompt_makes_its_asset_and_what_follows_stale(made: Made) -> None:
    (made.folder / "persona_selections.md").write_text("Choose a persona, with a reason.")
    settings = made.folder / "configs" / "amazon" / "prepare.yaml"
    settings.write_text(f"{SETTINGS}prompts: ../..\n")
    reasons = plan_run(defs, project, "amazon", select=MADE).reasons
    settings.write_text(SETTINGS)
    assert reasons == {
        "persona_selections": "prompt/persona_selections changed",
        "selected_personas": "after persona_selections",
    }


def test_a_spent_budget_ends_the_run_and_a_larger_one_goes_on(
    instance: dg.DagsterInstance, server: StandIn, tmp_path: Path
) -> None:
    settings = tmp_path / "configs" / "amazon" / "prepare.yaml"
    settings.write_text(f"{SETTINGS}budget_tokens: 9000\nconcurrency: 1\n")
    failures = run(instance).failures
    assert "the budget allows no further request" in next(iter(failures.values()))
    asked = server.num_requests
    settings.write_text(SETTINGS)
    assert run(instance).failures == {}
    assert server.num_requests == 1 + 6 + 16 + 6 + 4 > asked > 1


def test_a_dataset_with_prepared_files_is_not_asked_about_where_all_assets_are_launched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: StandIn
) -> None:
    monkeypatch.setenv("PERSONARANK_OUT_ROOT", str(tmp_path / "out"))
    with dg.instance_for_test() as instance:
        job = defs.resolve_job_def("full_refresh_job")
        selected = [dg.AssetKey(name) for name in (*STAGES, "split", "items", "reviews", "personas", "ground_truth")]
        assert job.execute_in_process(
            instance=instance, partition_key="amazon", asset_selection=selected, raise_on_error=False
        ).success
    assert (server.num_requests, project.versions("split", "amazon").names()) == (0, [])
    assert table("personas").height > 0


def test_what_is_exported_is_read_back_as_the_same_tables(made: Made, tmp_path: Path) -> None:
    files = {path.name: path for path in export_prepared("amazon", tmp_path / "exported")}
    personas = ingestion.read_personas(files["3.5_persona_with_summary.jsonl"]).frame
    assert personas.equals(table("personas"))
    assert ingestion.read_histories(files["3.5_history_loo.jsonl"], "amazon").frame.equals(table("histories"))
    selections = ingestion.read_selections(files["4_selected_personas.jsonl"], personas).frame
    assert selections.equals(table("selected_personas"))
    assert ingestion.read_ground_truth(files["gt.jsonl"]).frame.equals(table("ground_truth"))
