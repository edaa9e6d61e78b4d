"""Ticks of schedules and sensors, evaluated through the Dagster API with the time set."""

import gzip
import os
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.schedule_definition import ScheduleExecutionData
from dagster._core.storage.tags import PARTITION_NAME_TAG

from personarank_dagster.configuration.dataset import config_dir, load_schedule
from personarank_dagster.configuration.settings import ScheduleConfig
from personarank_dagster.core.errors import ConfigError
from personarank_dagster.definitions import defs, project
from personarank_dagster.defs.automation.due import QUIET_SECONDS, run_for_raw_files
from personarank_dagster.defs.automation.freshness import RECENT, age_in_days
from personarank_dagster.defs.automation.jobs import dataset_jobs
from personarank_dagster.defs.automation.runs import (
    execute,
    observe_raw_files,
    plan_run,
    reasons_to_run,
)
from personarank_dagster.defs.automation.schedules import (
    dataset_schedule,
    dataset_schedules,
    schedule_problem,
)
from personarank_dagster.defs.automation.sensors import raw_files_sensor
from personarank_dagster.defs.platform.declarations import asset_names
from personarank_dagster.defs.platform.lineage.provenance import provenance
from personarank_dagster.defs.platform.lineage.run_tags import FINGERPRINT_TAG, PROCESS_TAG
from personarank_dagster.defs.platform.lineage.snapshots import take_snapshot
from tests.workspace import copy_sample

INPUTS = ["ground_truth", "histories", "personas", "candidates", "selected_personas"]
NIGHT = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
CONDITIONED = dg.AssetSelection.assets("personas", "selected_personas")
VALIDATION = ScheduleConfig(job="data_validation_job", enabled=True)


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """An instance on a copy of the sample data whose files have lain still for a long time."""
    copy_sample(tmp_path)
    monkeypatch.setenv("PERSONARANK_CONFIG_DIR", str(tmp_path / "configs"))
    monkeypatch.setenv("PERSONARANK_OUT_ROOT", str(tmp_path / "out"))
    monkeypatch.setattr("personarank_dagster.defs.automation.due.QUIET_SECONDS", 0)
    with dg.instance_for_test() as instance:
        yield instance


def tick(instance: dg.DagsterInstance, at: datetime) -> list[dg.RunRequest] | str:
    """Requests of amazon's schedule, or the reason of its skip."""
    data = evaluate(dataset_schedule(project.mount, "amazon", VALIDATION), instance, at)
    return list(data.run_requests) or str(data.skip_message)


def evaluate(schedule: dg.ScheduleDefinition, instance: dg.DagsterInstance, at: datetime) -> ScheduleExecutionData:
    resources = {"project": project}
    with dg.build_schedule_context(instance, at, resources=resources, repository_def=repository()) as context:
        return schedule.evaluate_tick(context)


def repository() -> dg.RepositoryDefinition:
    return defs.get_repository_def()


def run(request: dg.RunRequest, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    job = defs.resolve_job_def("data_validation_job")
    selection = request.asset_selection
    return job.execute_in_process(
        instance=instance, partition_key=request.partition_key, asset_selection=selection, tags=dict(request.tags)
    )


def append_line(path: Path) -> None:
    """Change a gzip file: one more member, with a blank line."""
    with path.open("ab") as file:
        file.write(gzip.compress(b"\n"))


def test_a_tick_requests_one_run_for_its_partition_and_skips_until_something_changes(
    instance: dg.DagsterInstance,
) -> None:
    (first,) = tick(instance, NIGHT)
    assert (first.partition_key, first.tags["dataset"]) == ("amazon", "amazon")
    assert first.asset_selection == [dg.AssetKey(asset) for asset in INPUTS]
    assert run(first, instance).success
    unchanged = "amazon: nothing that these assets depend on has changed since they were made"
    assert tick(instance, NIGHT + timedelta(days=1)) == unchanged
    append_line(project.dataset("amazon").raw_path("gt"))
    (second,) = tick(instance, NIGHT + timedelta(days=2))
    assert [key.path[-1] for key in second.asset_selection] == ["ground_truth", "histories", "selected_personas"]
    assert second.tags["reason"] == "raw/gt changed"
    assert second.tags[FINGERPRINT_TAG] != first.tags[FINGERPRINT_TAG]


def test_a_changed_raw_file_makes_only_its_partition_stale(instance: dg.DagsterInstance) -> None:
    names = project.mount.datasets
    for name in names:
        assert not execute(defs, plan_run(defs, project, name, select="ground_truth"), instance).failures
    append_line(project.dataset("amazon").raw_path("gt"))
    stale = {name: reasons_to_run(project, ["ground_truth"], name) for name in names}
    assert stale == {"amazon": {"ground_truth": "raw/gt changed"}, "yelp": {}}


def test_a_run_carries_dataset_fingerprint_and_process_however_it_was_launched(instance: dg.DagsterInstance) -> None:
    job = defs.resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(
        instance=instance, partition_key="yelp", asset_selection=[dg.AssetKey("ground_truth")]
    )
    record = instance.get_run_by_id(result.run_id)
    assert record.tags[PARTITION_NAME_TAG] == record.tags["dataset"] == "yelp"
    assert len(record.tags[FINGERPRINT_TAG]) == 16
    assert f":{os.getpid()}:" in record.tags[PROCESS_TAG]


def test_the_sensor_requests_a_run_of_each_dataset_for_its_present_contents(instance: dg.DagsterInstance) -> None:
    def requested() -> list[tuple[str, str]]:
        with dg.build_sensor_context(instance, resources={"project": project}, definitions=defs) as context:
            requests = raw_files_sensor(project.mount).evaluate_tick(context).run_requests
        return [(str(request.partition_key), request.tags[FINGERPRINT_TAG]) for request in requests]

    before = requested()
    assert [partition for partition, _ in before] == ["amazon", "yelp"]
    assert requested() == before
    append_line(project.dataset("yelp").raw_path("gt"))
    after = requested()
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_neither_schedule_nor_sensor_asks_for_what_a_run_already_makes(instance: dg.DagsterInstance) -> None:
    (request,) = tick(instance, NIGHT)
    making = instance.create_run_for_job(
        defs.resolve_job_def("full_refresh_job"),
        status=dg.DagsterRunStatus.STARTED,
        tags={PARTITION_NAME_TAG: "amazon"},
        asset_selection=frozenset({dg.AssetKey("candidates")}),
    )
    expected = f"amazon: run {making.run_id[:8]} is making it"
    assert (tick(instance, NIGHT), run_for_raw_files(project, "amazon", instance)) == (expected, expected)
    instance.report_run_failed(making)
    assert tick(instance, NIGHT) == [request]


def test_the_sensor_tries_contents_on_which_a_run_failed_again_but_not_at_once(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = run_for_raw_files(project, "amazon", instance)
    assert isinstance(request, dg.RunRequest)
    tags = {**request.tags, PARTITION_NAME_TAG: "amazon"}
    for _ in range(2):
        failed = instance.create_run_for_job(defs.resolve_job_def("full_refresh_job"), tags=tags)
        instance.report_run_failed(failed)
    assert "the last run on these contents failed; trying again in" in str(
        run_for_raw_files(project, "amazon", instance)
    )
    now = time.time()
    for moment in (now + 121, now - 3600):
        monkeypatch.setattr("personarank_dagster.defs.automation.due.time.time", lambda moment=moment: moment)
        assert isinstance(run_for_raw_files(project, "amazon", instance), dg.RunRequest)


def test_an_edit_of_a_setting_is_nothing_for_the_sensor_of_raw_files(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    for asset in ["personas", "histories", "candidates", "ground_truth", "selected_personas"]:
        assert not execute(defs, plan_run(defs, project, "amazon", select=asset), instance).failures
    edit = tmp_path / "configs/amazon/data.yaml"
    edit.write_text(edit.read_text() + "\nmax_bad_share: 0.5\n")
    stale = reasons_to_run(project, ["candidates"], "amazon")
    assert stale == {"candidates": "its settings changed: max_bad_share"}
    requested = run_for_raw_files(project, "amazon", instance)
    assert "candidates" not in {key.path[-1] for key in getattr(requested, "asset_selection", [])}


def test_the_sensor_waits_until_a_file_lies_still_whichever_way_the_clock_goes(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("personarank_dagster.defs.automation.due.QUIET_SECONDS", QUIET_SECONDS)
    project.dataset("yelp").raw_path("gt").touch()
    waiting = run_for_raw_files(project, "yelp", instance)
    assert re.fullmatch(r"yelp: a raw file changed \d s ago; waiting until none has for 60 s", str(waiting))
    now = time.time()
    monkeypatch.setattr("personarank_dagster.defs.automation.due.time.time", lambda: now + QUIET_SECONDS)
    assert isinstance(run_for_raw_files(project, "yelp", instance), dg.RunRequest)
    monkeypatch.setattr("personarank_dagster.defs.automation.due.time.time", lambda: now - 100 * QUIET_SECONDS)
    assert isinstance(run_for_raw_files(project, "yelp", instance), dg.RunRequest)
    project.dataset("yelp").raw_path("gt").unlink()
    assert str(run_for_raw_files(project, "yelp", instance)).endswith("gt.jsonl.gz is missing")


def test_a_folder_of_parts_is_one_raw_file(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    config = tmp_path / "configs/yelp/data.yaml"
    config.write_text(config.read_text().replace("gt.jsonl.gz", "gt"))
    assert str(run_for_raw_files(project, "yelp", instance)).endswith("sample/yelp/gt is missing")
    parts = project.dataset("yelp").raw_path("gt")
    parts.mkdir()
    (parts.parent / "gt.jsonl.gz").rename(parts / "part-0.jsonl.gz")
    assert not execute(defs, plan_run(defs, project, "yelp", select="ground_truth"), instance).failures
    assert reasons_to_run(project, ["ground_truth"], "yelp") == {}
    (parts / "part-1.json").write_text('{"user_id": "new", "item_id": "i"}\n')
    assert isinstance(run_for_raw_files(project, "yelp", instance), dg.RunRequest)
    assert reasons_to_run(project, ["ground_truth"], "yelp") == {"ground_truth": "raw/gt changed"}


def test_schedules_are_off_unless_their_file_says_otherwise(tmp_path: Path) -> None:
    schedules = [*defs.schedules]
    assert [one.name for one in schedules] == ["amazon_schedule", "yelp_schedule"]
    assert all(one.default_status == dg.DefaultScheduleStatus.STOPPED for one in schedules)
    (tmp_path / "films").mkdir()
    assert not load_schedule(tmp_path, "films").enabled
    (tmp_path / "films/schedule.yaml").write_text("cron: 30 4 * * 1\ntimezone: Europe/Berlin\nenabled: true\n")
    schedule = dataset_schedule(project.mount, "films", load_schedule(tmp_path, "films"))
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("30 4 * * 1", "Europe/Berlin")
    assert schedule.job_name == "full_refresh_job"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cron: daily", "schedule.yaml: cron must be a cron expression of five fields, .* got 'daily'"),
        ("cron: 0 25 * * *", "schedule.yaml: cron must be a cron expression of five fields that can come true"),
        ("timezone: Mars/Olympus", "schedule.yaml: timezone must be the name of a time zone, .*, got 'Mars/Olympus'"),
        ("timezone: ../../etc/passwd", "schedule.yaml: timezone must be the name of a time zone"),
        ("job: everything", "schedule.yaml: job must be one of full_refresh_job, .*, got 'everything'"),
        ("enabled: sometimes", "schedule.yaml: enabled must be true or false, got 'sometimes'"),
        ("every: day", "schedule.yaml: unknown key every; "),
    ],
)
def test_a_schedule_that_breaks_a_rule_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "films").mkdir()
    (tmp_path / "films/schedule.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        dataset_schedule(project.mount, "films", load_schedule(tmp_path, "films"))


@pytest.mark.parametrize(
    "text", ["cron: daily", "cron: 0 0 31 2 *", "timezone: Mars", "every: day", "enabled: [", ""]
)
def test_a_schedule_file_that_breaks_a_rule_costs_that_schedule_alone(
    instance: dg.DagsterInstance, text: str
) -> None:
    file = config_dir() / "yelp" / "schedule.yaml"
    file.write_text(text)
    amazon, yelp = dataset_schedules(project.mount, ["amazon", "yelp"])
    assert (amazon.name, yelp.name, yelp.default_status.value) == ("amazon_schedule", "yelp_schedule", "STOPPED")
    assert str(file) in str(yelp.description)
    with pytest.raises(dg.DagsterError) as failure:
        evaluate(yelp, instance, NIGHT)
    assert str(failure.value.__cause__) == schedule_problem(project.mount, "yelp")
    assert len(evaluate(amazon, instance, NIGHT).run_requests) == 1
    assert schedule_problem(project.mount, "amazon") == ""


def test_a_schedule_that_was_on_stays_on_and_fails_where_its_file_breaks_a_rule(instance: dg.DagsterInstance) -> None:
    (config_dir() / "yelp" / "schedule.yaml").write_text("enabled: true\ncron: daily")
    _, yelp = dataset_schedules(project.mount, ["amazon", "yelp"])
    assert yelp.default_status == dg.DefaultScheduleStatus.RUNNING


def test_datasets_whose_schedules_would_have_one_name_share_one_that_fails_and_cost_no_other(
    instance: dg.DagsterInstance,
) -> None:
    amazon, both = dataset_schedules(project.mount, ["amazon", "my-films", "my_films"])
    assert (amazon.name, both.name) == ("amazon_schedule", "my_films_schedule")
    assert "differ in more than - and _, got my-films, my_films, whose schedules" in str(both.description)
    with pytest.raises(dg.DagsterError, match="my_films_schedule"):
        evaluate(both, instance, NIGHT)
    assert len(evaluate(amazon, instance, NIGHT).run_requests) == 1


def test_every_job_covers_what_its_name_says() -> None:
    def assets(name: str) -> set[str]:
        return {key.path[-1] for key in defs.resolve_job_def(name).asset_layer.executable_asset_keys}

    caches, ranking = {"interaction_cache", "persona_cache"}, {"reranked_candidates", "rerank_metrics"}
    ranking |= {"key_value_lists", "warehouse_lists"}
    assert assets("full_refresh_job") == set(asset_names(partitioned=True))
    assert assets("data_validation_job") == set(INPUTS)
    assert assets("retrain_job") == {"trained_encoder"} | caches | ranking
    assert assets("recache_job") == caches | ranking
    assert assets("evaluate_job") == ranking
    assert all(defs.resolve_job_def(name).partitions_def == project.mount.partitions for name in dataset_jobs())


def test_conditions_ask_for_what_comes_after_a_change_in_its_partition_alone(instance: dg.DagsterInstance) -> None:
    for name in project.mount.datasets:
        observe_raw_files(project, name, instance)
        for asset in ("personas", "selected_personas"):
            instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=name))
    first = dg.evaluate_automation_conditions(defs, instance, asset_selection=CONDITIONED)
    instance.report_runless_asset_event(dg.AssetMaterialization("personas", partition="yelp"))
    second = dg.evaluate_automation_conditions(defs, instance, asset_selection=CONDITIONED, cursor=first.cursor)
    assert second.get_requested_partitions(dg.AssetKey("selected_personas")) == {"yelp"}


def test_every_tick_records_the_age_of_the_metrics(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_from = provenance(take_snapshot(project, "amazon"), "rerank_metrics", {})
    store = project.versions("rerank_metrics", "amazon")
    store.publish(lambda folder: {}, run_id="run", data_version="1", provenance=made_from)
    for day, status in ((0, "SUCCEEDED"), (29, "SUCCEEDED"), (31, "FAILED")):
        monkeypatch.setattr(
            "personarank_dagster.defs.automation.freshness.age_in_days", lambda *_, day=day: float(day)
        )
        tick(instance, NIGHT)
        history = instance.event_log_storage.get_asset_check_execution_history
        (record,) = history(dg.AssetCheckKey(dg.AssetKey("rerank_metrics"), RECENT), limit=9)
        assert (record.status.value, record.run_id, record.partition) == (status, "run", "amazon")


def test_the_age_of_metrics_is_counted_in_days() -> None:
    assert age_in_days(NIGHT, NIGHT + timedelta(hours=36)) == 1.5
