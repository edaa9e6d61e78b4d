"""A job whose every step has a process of its own."""

from pathlib import Path

import dagster as dg
import pytest

from personarank_dagster.definitions import defs, project
from personarank_dagster.defs.graph import all_assets
from personarank_dagster.defs.platform.lineage.snapshots import MARK

STEPS = ["personas", "selected_personas"]


def job() -> dg.JobDefinition:
    """What each process of the run makes anew."""
    resources = dict(defs.resources or {})
    selection = dg.AssetSelection.assets(*STEPS).without_checks()
    selected = dg.define_asset_job("steps", selection=selection, executor_def=dg.multiprocess_executor)
    own = dg.Definitions(assets=all_assets(project.mount), resources=resources, jobs=[selected])
    return own.resolve_job_def("steps")


def test_steps_in_processes_of_their_own_begin_with_the_same_and_read_what_the_run_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERSONARANK_OUT_ROOT", str(tmp_path / "out"))
    with dg.instance_for_test() as instance:
        result = dg.execute_job(dg.reconstructable(job), instance, tags={"dagster/partition": "amazon"})
        logs = instance.all_logs(result.run_id)
    made = {asset: project.versions(asset, "amazon").current().manifest for asset in STEPS}
    assert result.success
    assert {one.run_id for one in made.values()} == {result.run_id}
    assert made["selected_personas"].provenance.lineage == {"personas": made["personas"].data_version}
    assert len([entry for entry in logs if MARK in str(entry.dagster_event)]) == 1
