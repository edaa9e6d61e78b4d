"""Materialisation in this process, of the cheap assets, on the committed sample data."""

import gzip
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from dagster._core.definitions.observe import observe

from personarank_dagster.core import schemas
from personarank_dagster.core.errors import ConfigError
from personarank_dagster.definitions import defs, project
from personarank_dagster.defs.automation import runs
from personarank_dagster.defs.automation.runs import Outcome, execute, observe_raw_files, plan_run
from personarank_dagster.defs.inputs.raw_files import raw_files
from personarank_dagster.defs.platform.lineage.run_tags import PROCESS_TAG
from personarank_dagster.defs.platform.lineage.snapshots import content_of
from personarank_dagster.raw import ingestion
from personarank_dagster.raw.bad_lines import ReadRules
from tests.workspace import copy_sample


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setenv("PERSONARANK_OUT_ROOT", str(tmp_path / "out"))
    with dg.instance_for_test() as instance:
        yield instance


def run(instance: dg.DagsterInstance, select: str, *, force: bool = False) -> Outcome:
    return execute(defs, plan_run(defs, project, "amazon", select=select, force=force), instance)


def materialization(instance: dg.DagsterInstance, asset: str) -> dg.AssetMaterialization | None:
    event = instance.get_latest_materialization_event(dg.AssetKey(asset))
    return event.asset_materialization if event else None


def test_a_table_is_published_with_its_counts_and_its_content_hash(instance: dg.DagsterInstance) -> None:
    assert run(instance, "candidates").failures == {}
    current = project.versions("candidates", "amazon").current().manifest
    event = materialization(instance, "candidates")
    assert event is not None
    numbers = {key: value.value for key, value in event.metadata.items()}
    assert numbers["dagster/row_count"] == current.details["rows"]
    assert numbers["rows_read"] == numbers["dagster/row_count"] + numbers["left_out"]
    assert numbers["left out: padding"] > 0
    assert (event.tags or {})["dagster/data_version"] == current.data_version


def test_the_same_input_gives_the_same_data_version(instance: dg.DagsterInstance) -> None:
    versions = []
    for _ in range(2):
        run(instance, "histories", force=True)
        versions.append(project.versions("histories", "amazon").current().manifest)
    assert versions[0].version != versions[1].version
    assert versions[0].data_version == versions[1].data_version


def test_a_plan_holds_what_is_stale_and_what_comes_after_it(instance: dg.DagsterInstance) -> None:
    assert plan_run(defs, project, "amazon", select="selected_personas,+persona_cache").reasons == {
        "personas": "never materialised",
        "histories": "never materialised",
        "selected_personas": "never materialised",
        "trained_encoder": "never materialised",
        "persona_cache": "never materialised",
    }
    run(instance, "personas,selected_personas")
    assert plan_run(defs, project, "amazon", select="personas,selected_personas").reasons == {}
    forced = plan_run(defs, project, "amazon", select="personas", force=True)
    assert forced.reasons == {"personas": "forced"}


def test_a_result_that_breaks_its_contract_is_not_published(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(instance, "ground_truth").failures == {}
    good = project.versions("ground_truth", "amazon").current()
    event = materialization(instance, "ground_truth")

    repeated = pl.DataFrame({"user_id": ["u", "u"], "item_id": ["i", "i"]}, schema=schemas.GROUND_TRUTH)
    monkeypatch.setattr(ingestion, "read_ground_truth", lambda path, rules: ingestion.Ingested(repeated, read=2))
    outcome = run(instance, "ground_truth", force=True)
    assert "ground_truth (amazon): user_id, item_id must be unique" in outcome.failures["ground_truth"]
    assert project.versions("ground_truth", "amazon").current() == good
    assert materialization(instance, "ground_truth") == event


@pytest.mark.parametrize(("first", "other"), [(0.30000000000000004, 0.3), (1.7e308, -1.7e308)])
def test_candidates_of_any_finite_scores_are_published_with_their_picture(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, first: float, other: float
) -> None:
    read = ingestion.read_candidates
    score = pl.when(pl.col("candidate_rank") == 1).then(pl.lit(first)).otherwise(pl.lit(other))

    def read_scores(path: Path, rules: ReadRules) -> ingestion.Ingested:
        ingested = read(path, rules)
        return replace(ingested, table=ingested.table.with_columns(candidate_score=score))

    monkeypatch.setattr(ingestion, "read_candidates", read_scores)
    outcome = run(instance, "candidates")
    assert (outcome.failures, outcome.warnings) == ({}, ())
    event = materialization(instance, "candidates")
    assert event is not None
    assert str(event.metadata["distributions"].value).startswith("![candidate score")


@pytest.fixture
def blank_id(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Has the candidates read with one item's id that is wrapped in white space; the second call ends it."""
    read, blank = ingestion.read_candidates, [True]

    def read_with_a_blank_id(path: Path, rules: ReadRules) -> ingestion.Ingested:
        ingested = read(path, rules)
        wrapped = pl.when(pl.int_range(pl.len()) == 0).then(pl.col("item_id") + " ").otherwise("item_id")
        return replace(ingested, table=ingested.table.with_columns(item_id=wrapped)) if blank[0] else ingested

    monkeypatch.setattr(ingestion, "read_candidates", read_with_a_blank_id)

    def switch() -> None:
        blank[0] = not blank[0]

    return switch


def test_a_version_that_a_blocking_check_refuses_is_never_current(
    instance: dg.DagsterInstance, blank_id: Callable[[], None]
) -> None:
    blank_id()
    assert run(instance, "candidates").failures == {}
    good = project.versions("candidates", "amazon").current()
    blank_id()
    outcome = run(instance, "candidates", force=True)
    assert "refused: ids_of_candidates_are_non_empty, bad 1" in outcome.failures["candidates"]
    assert f"{good.name} stays current" in outcome.failures["candidates"]
    assert run(instance, "candidates", force=True).failures.keys() == {"candidates"}
    assert len(project.versions("candidates", "amazon").names()) == 2
    assert project.versions("candidates", "amazon").current() == good
    event = materialization(instance, "candidates")
    assert event is not None
    assert event.metadata["version"].value == good.name


def test_a_refused_asset_is_stale_with_its_verdict_until_something_changes(
    instance: dg.DagsterInstance, blank_id: Callable[[], None]
) -> None:
    assert run(instance, "candidates").failures.keys() == {"candidates"}
    (reason,) = plan_run(defs, project, "amazon", select="candidates").reasons.values()
    assert reason.startswith("refused: ids_of_candidates_are_non_empty, bad 1")
    blank_id()
    assert run(instance, "candidates").failures == {}
    assert plan_run(defs, project, "amazon", select="candidates").reasons == {}


def test_what_a_blocking_check_found_of_a_refused_version_is_recorded(
    instance: dg.DagsterInstance, blank_id: Callable[[], None]
) -> None:
    run(instance, "candidates")
    key = dg.AssetCheckKey(dg.AssetKey("candidates"), "ids_of_candidates_are_non_empty")
    (record,) = instance.event_log_storage.get_asset_check_execution_history(key, limit=5)
    evaluation = record.event.dagster_event.asset_check_evaluation_data  # type: ignore[union-attr]
    assert (evaluation.passed, evaluation.partition, evaluation.metadata["bad"].value) == (False, "amazon", 1)


def test_nothing_is_made_from_a_refused_version(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = ingestion.read_personas

    def read_with_a_blank_id(path: Path, rules: ReadRules, **options: Any) -> ingestion.Ingested:
        ingested = read(path, rules, **options)
        blank = pl.when(pl.col("item_id") == ingested.table["item_id"][0]).then(pl.lit(" ")).otherwise("item_id")
        return replace(ingested, table=ingested.table.with_columns(item_id=blank))

    monkeypatch.setattr(ingestion, "read_personas", read_with_a_blank_id)
    assert run(instance, "personas,selected_personas").failures.keys() == {"personas"}
    alone = run(instance, "selected_personas", force=True)
    assert "personas (amazon): nothing published" in alone.failures["selected_personas"]
    assert project.versions("selected_personas", "amazon").find_current() is None


def test_a_raw_file_that_changes_while_it_is_read_stops_the_step(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    copy_sample(tmp_path)
    monkeypatch.setenv("PERSONARANK_CONFIG_DIR", str(tmp_path / "configs"))
    read, path = ingestion.read_ground_truth, project.dataset("amazon").raw_path("gt")

    def read_and_replace(path: Path, rules: ReadRules) -> ingestion.Ingested:
        ingested = read(path, rules)
        path.write_bytes(path.read_bytes() + gzip.compress(b"\n"))
        return ingested

    monkeypatch.setattr(ingestion, "read_ground_truth", read_and_replace)
    outcome = run(instance, "ground_truth")
    assert "amazon: raw/gt must stay as it is while a run reads it" in outcome.failures["ground_truth"]
    assert project.versions("ground_truth", "amazon").names() == []
    assert path.exists()


def test_checks_are_recorded_for_their_partition(instance: dg.DagsterInstance) -> None:
    assert run(instance, "candidates,histories,personas").failures == {}
    key = dg.AssetCheckKey(dg.AssetKey("candidates"), "candidates_have_personas")
    records = instance.event_log_storage.get_asset_check_execution_history(key, limit=5)
    (evaluation,) = [record.event.dagster_event.asset_check_evaluation_data for record in records]
    assert evaluation.passed
    bad, total, share = (evaluation.metadata[name].value for name in ("bad", "total", "share (%)"))
    assert share == pytest.approx(100 * bad / total, abs=0.05)


def test_raw_files_are_observed_per_partition(instance: dg.DagsterInstance) -> None:
    source = next(source for source in raw_files(project.mount) if source.key == dg.AssetKey(["raw", "gt"]))
    result = observe([source], instance=instance, resources={"project": project})
    assert result.success
    observed = {e.partition: e.data_version for e in result.asset_observations_for_node("raw__gt")}
    assert observed.keys() == {"amazon", "yelp"}
    assert observed["amazon"] != observed["yelp"]


def test_a_run_from_the_command_line_observes_the_same_versions(instance: dg.DagsterInstance) -> None:
    observe_raw_files(project, "amazon", instance)
    records = instance.fetch_observations(dg.AssetKey(["raw", "gt"]), limit=5).records
    (event,) = [record.event_log_entry.asset_observation for record in records]
    assert event is not None
    assert event.partition == "amazon"
    assert event.data_version == content_of(project.dataset("amazon"), "raw/gt")


@pytest.mark.parametrize("select", ["nothing_like_it", "raw/gt"])
def test_a_selection_of_nothing_is_an_error(instance: dg.DagsterInstance, select: str) -> None:
    with pytest.raises(ConfigError, match=rf"--select {select}: .*"):
        plan_run(defs, project, "amazon", select=select)


def test_a_run_ends_those_that_were_killed_while_it_goes_on(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "RIVAL_SECONDS", 0.01)
    tags = {PROCESS_TAG: f"{os.uname().nodename}:{2**22 + 1}:0"}
    job = defs.resolve_job_def("metrics_report_job")
    killed = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED, tags=tags)
    assert run(instance, "ground_truth").failures == {}
    found = instance.get_run_by_id(killed.run_id)
    assert found is not None
    assert found.status == dg.DagsterRunStatus.FAILURE
