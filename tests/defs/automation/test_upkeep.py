"""Versions over time: list, go back, retire, verify, put right. On the committed sample data."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
from click.testing import CliRunner, Result

from personarank_dagster.command_line.cli import main
from personarank_dagster.core.errors import StorageError
from personarank_dagster.definitions import defs, project
from personarank_dagster.defs.automation import upkeep
from personarank_dagster.defs.automation.runs import PROCESS_TAG, execute, plan_run
from personarank_dagster.storage.versions import VersionStore


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setenv("PERSONARANK_OUT_ROOT", str(tmp_path / "out"))
    with dg.instance_for_test() as instance:
        monkeypatch.setenv("DAGSTER_HOME", str(Path(instance.root_directory)))
        yield instance


def publish(instance: dg.DagsterInstance, times: int) -> VersionStore:
    """Materialise the ground truth of amazon so many times."""
    for _ in range(times):
        plan = plan_run(defs, project, "amazon", select="ground_truth", force=True)
        assert execute(defs, plan, instance).failures == {}
    return project.versions("ground_truth", "amazon")


def cli(*arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments, "--json"])


def test_the_newest_versions_are_kept_and_the_current_one_always(instance: dg.DagsterInstance) -> None:
    store = publish(instance, 5)
    names = store.names()
    assert len(names) == 3  # keep in data.yaml
    assert cli("rollback", "ground_truth", "amazon", names[0]).exit_code == 0
    would = json.loads(cli("gc", "--keep", "1", "--dry-run").output)
    assert [one["version"] for one in would] == names[1:2]
    assert store.names() == names
    assert json.loads(cli("gc", "--keep", "1").output) == would
    assert store.names() == [names[0], names[2]]


def test_a_version_that_is_in_use_is_not_removed(instance: dg.DagsterInstance) -> None:
    store = publish(instance, 1)
    in_use = store.use()
    publish(instance, 1)
    (kept,) = upkeep.retire(project, keep=1, dry_run=False)
    assert (kept.version, kept.in_use) == (in_use.version.name, True)
    in_use.close()
    (removed,) = upkeep.retire(project, keep=1, dry_run=False)
    assert (removed.version, removed.in_use) == (in_use.version.name, False)


def test_a_rollback_is_current_for_readers_and_in_the_ui(instance: dg.DagsterInstance) -> None:
    store = publish(instance, 2)
    first, second = store.names()
    assert json.loads(cli("rollback", "ground_truth", "amazon").output)["version"] == first
    assert store.current().name == first
    event = instance.get_latest_materialization_event(dg.AssetKey("ground_truth"))
    assert event is not None
    assert event.asset_materialization is not None
    assert event.asset_materialization.description == f"rolled back to version {first}"
    result = cli("rollback", "ground_truth", "amazon")
    assert (result.exit_code, "no version before the current one" in result.output) == (1, True)
    listed = {one["version"]: one["current"] for one in json.loads(cli("versions", "ground_truth").output)}
    assert listed == {first: True, second: False}


@pytest.mark.parametrize("arguments", [["versions", "nothing"], ["rollback", "ground_truth", "nowhere"]])
def test_names_of_nothing_are_an_error(instance: dg.DagsterInstance, arguments: list[str]) -> None:
    result = cli(*arguments)
    assert result.exit_code == 2
    assert "Error: unknown" in result.output


def test_a_flipped_byte_is_found_and_not_gone_back_to(instance: dg.DagsterInstance) -> None:
    store = publish(instance, 2)
    assert cli("verify").exit_code == 0
    path = store.root / store.names()[0] / "table.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    result = cli("verify")
    assert result.exit_code == 1
    damage = [problem for one in json.loads(result.output) for problem in one["damage"]]
    assert [str(path) in problem and "sha256 must be" in problem for problem in damage] == [True]
    with pytest.raises(StorageError, match="cannot go back"):
        store.rollback()


def test_the_doctor_mends_pointers_and_sweeps(instance: dg.DagsterInstance) -> None:
    store = publish(instance, 2)
    newest = store.names()[-1]
    (store.root / ".staging-killed").mkdir()
    for lost in (lambda path: path.unlink(), lambda path: path.write_text("gone\n")):
        lost(store.root / "CURRENT")
        with pytest.raises(StorageError, match="personarank doctor"):
            store.current()
        treated = json.loads(cli("doctor").output)
        assert any(f"pointed to {newest}" in one["done"] for one in treated)
        assert store.current().name == newest
    assert not (store.root / ".staging-killed").exists()
    assert json.loads(cli("doctor").output) == []


@pytest.mark.parametrize("command", ["doctor", "gc"])
def test_parts_of_blocks_of_vectors_are_swept_and_blocks_stay(instance: dg.DagsterInstance, command: str) -> None:
    publish(instance, 1)
    store = project.outputs("amazon").vectors("encoder-fp32")
    store.write_block(np.zeros((3, 1), dtype=np.uint64), lambda rows: np.ones((len(rows), 2), dtype=np.float16))
    blocks = sorted(store.folder.iterdir())
    (store.folder / "killed.vectors.tmp").write_text("half of it")
    (store.folder / "killed.vectors.npy").write_text("no keys")
    assert cli(command).exit_code == 0
    assert len(list(store.folder.iterdir())) == 5  # the store is open
    del store
    assert cli(command).exit_code == 0
    assert sorted(blocks[0].parent.iterdir()) == blocks


def test_the_doctor_leaves_to_a_person_what_only_a_person_can_do(instance: dg.DagsterInstance) -> None:
    assert execute(defs, plan_run(defs, project, "amazon", select="personas"), instance).failures == {}
    store = project.versions("personas", "amazon")
    (store.root / store.names()[0] / "table.parquet").unlink()
    assert cli("gc").exit_code == 0
    result = cli("doctor")
    assert result.exit_code == 1
    assert [(one["open"], one["done"]) for one in json.loads(result.output)] == [
        (True, "no version is whole: materialise it again")
    ]


def test_the_doctor_fails_runs_of_dead_processes(instance: dg.DagsterInstance) -> None:
    run = instance.create_run_for_job(
        defs.resolve_job_def("metrics_report_job"),
        status=dg.DagsterRunStatus.STARTED,
        tags={PROCESS_TAG: f"{os.uname().nodename}:{2**22 + 1}:0"},
    )
    assert [one["what"] for one in json.loads(cli("doctor").output)] == [f"run {run.run_id[:8]}: its process is gone"]
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    assert found.status == dg.DagsterRunStatus.FAILURE


def test_nothing_is_said_of_a_folder_that_a_living_process_writes(instance: dg.DagsterInstance) -> None:
    store = publish(instance, 1)

    def write(directory: Path) -> dict[str, int]:
        assert store.leftovers() == []
        assert json.loads(cli("doctor").output) == []
        (directory / "x").write_text("x")
        return {}

    current = store.current().manifest
    store.publish(write, run_id="r", data_version="d" * 8, provenance=current.provenance)
    assert len(store.names()) == 2
