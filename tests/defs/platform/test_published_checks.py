"""Checks as *Execute all* of the UI launches them: for no partition. On the committed sample data."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from personarank_dagster.definitions import defs, project
from personarank_dagster.defs.automation.runs import execute, plan_run

PERSONA_CHECKS = defs.resolve_asset_graph().get_check_keys_for_assets([dg.AssetKey("personas")])
KEY = dg.AssetCheckKey(dg.AssetKey("personas"), "persona_ids_are_item_and_id")


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """An instance in which the personas of one of both datasets are published."""
    monkeypatch.setenv("PERSONARANK_OUT_ROOT", str(tmp_path))
    with dg.instance_for_test() as instance:
        assert execute(defs, plan_run(defs, project, "amazon", select="personas"), instance).failures == {}
        yield instance


def execute_all(instance: dg.DagsterInstance, keys: set[dg.AssetCheckKey]) -> dg.ExecuteInProcessResult:
    job = defs.resolve_implicit_global_asset_job_def().get_subset(asset_selection=set(), asset_check_selection=keys)
    return job.execute_in_process(instance=instance, raise_on_error=False)


def test_checks_without_a_partition_are_evaluated_for_every_dataset(instance: dg.DagsterInstance) -> None:
    result = execute_all(instance, PERSONA_CHECKS)
    assert result.success
    of_all = {one.check_name: one.metadata for one in result.get_asset_check_evaluations()}
    assert of_all[KEY.name]["amazon"].value == "passed"
    assert of_all[KEY.name]["yelp"].value.startswith("not checked: needs personas")


def test_each_dataset_has_its_own_evaluation_of_the_materialisation_that_was_judged(
    instance: dg.DagsterInstance,
) -> None:
    execute_all(instance, PERSONA_CHECKS)
    found = instance.event_log_storage.get_asset_check_execution_history(KEY, limit=9)
    own = {one.partition: one.event.dagster_event.asset_check_evaluation_data for one in found if one.partition}
    made = instance.fetch_materializations(KEY.asset_key, limit=1).records[0]
    assert own["amazon"].passed
    assert own["amazon"].target_materialization_data.run_id == made.run_id
    assert (own["yelp"].passed, own["yelp"].severity) == (False, dg.AssetCheckSeverity.WARN)
