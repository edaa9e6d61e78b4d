"""A dataset that cannot be read, or is no more, costs itself alone."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner, Result
from dagster._core.definitions.observe import observe
from s3fs import S3FileSystem

from personarank_dagster.command_line.cli import main
from personarank_dagster.core.errors import StorageError
from personarank_dagster.definitions import defs, project
from personarank_dagster.defs.automation.runs import execute, plan_run
from personarank_dagster.defs.automation.sensors import raw_files_sensor
from personarank_dagster.defs.inputs.raw_files import raw_files
from personarank_dagster.defs.platform.lineage.snapshots import take_snapshot
from personarank_dagster.defs.platform.partitions import UNPARTITIONED
from personarank_dagster.serving.reranker import Reranker
from tests.object_store import object_store
from tests.workspace import copy_sample


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """An instance on a copy of the sample."""
    copy_sample(tmp_path)
    monkeypatch.setenv("PERSONARANK_CONFIG_DIR", str(tmp_path / "configs"))
    monkeypatch.setattr("personarank_dagster.defs.automation.due.QUIET_SECONDS", 0)
    for name in ("amazon", "yelp"):
        data = tmp_path / "configs" / name / "data.yaml"
        data.write_text(data.read_text().replace(f"../../outputs/{name}", str(tmp_path / "out" / name)))
    with dg.instance_for_test() as instance:
        monkeypatch.setenv("DAGSTER_HOME", str(instance.root_directory))
        yield instance


def read_ground_truth(instance: dg.DagsterInstance, *names: str) -> None:
    for name in names:
        assert not execute(defs, plan_run(defs, project, name, select="ground_truth"), instance).failures


def break_rule(folder: Path) -> None:
    data = folder / "configs/yelp/data.yaml"
    data.write_text(data.read_text() + "\nkeep: 0\n")


def remove(folder: Path) -> None:
    shutil.rmtree(folder / "configs/yelp")


def cli(*arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments])


@pytest.mark.parametrize(
    ("change", "message"),
    [(break_rule, "keep must be a whole number from 1 to 10^9, got 0"), (remove, "unknown dataset 'yelp'")],
)
def test_the_sensor_names_it_and_goes_on_with_the_others(
    instance: dg.DagsterInstance, tmp_path: Path, change: object, message: str
) -> None:
    def tick() -> object:
        with dg.build_sensor_context(instance, resources={"project": project}, definitions=defs) as context:
            return raw_files_sensor(project.mount).evaluate_tick(context)

    change(tmp_path)  # type: ignore[operator]
    (request,) = tick().run_requests  # type: ignore[attr-defined]
    assert request.partition_key == "amazon"
    (tmp_path / "data/sample/amazon/gt.jsonl.gz").unlink()
    skipped = tick().skip_message  # type: ignore[attr-defined]
    assert "amazon: " in skipped
    assert f"yelp: {tmp_path}" in skipped or "yelp: unknown" in skipped
    assert message in skipped


@pytest.mark.parametrize("change", [break_rule, remove])
def test_the_raw_files_of_the_others_are_observed(
    instance: dg.DagsterInstance, tmp_path: Path, change: object
) -> None:
    change(tmp_path)  # type: ignore[operator]
    source = next(source for source in raw_files(project.mount) if source.key == dg.AssetKey(["raw", "gt"]))
    result = observe([source], instance=instance, resources={"project": project})
    assert {one.partition for one in result.asset_observations_for_node("raw__gt")} == {"amazon"}


def test_a_run_of_all_makes_the_others_and_fails(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    break_rule(tmp_path)
    result = cli("run", "--select", "candidates")
    assert (result.exit_code, result.output.count("keep must be a whole number")) == (1, 1)
    assert project.versions("candidates", "amazon").find_current()
    assert cli("run", "--select", "candidates", "--partition", "amazon").exit_code == 0


def test_a_pointer_that_one_dataset_lost_costs_no_report(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    (tmp_path / "out/yelp/versions/rerank_metrics/yelp/CURRENT").mkdir(parents=True)
    with pytest.raises(StorageError, match="CURRENT: cannot be read"):
        project.versions("rerank_metrics", "yelp").find_current()
    assert plan_run(defs, project, UNPARTITIONED).reasons == {}
    assert take_snapshot(project, UNPARTITIONED).versions == {}


def test_a_selection_of_nothing_is_said_once(instance: dg.DagsterInstance) -> None:
    result = cli("run", "--select", "nothing_like_it")
    assert (result.exit_code, result.output.count("nothing_like_it")) == (2, 1)


def test_listing_verifying_and_retiring_pass_it_over_unless_it_is_named(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    read_ground_truth(instance, "amazon")
    break_rule(tmp_path)
    for command in ("versions", "verify", "gc"):
        result = cli(command, "--json")
        assert (result.exit_code, "warning: passed over: " in result.stderr) == (0, True)
    assert {one["partition"] for one in json.loads(cli("versions", "--json").stdout)} == {"amazon"}
    assert cli("versions", "--partition", "yelp").exit_code == 1


def test_the_doctor_names_it(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    break_rule(tmp_path)
    result = cli("doctor", "--json")
    assert [(one["open"], one["done"]) for one in json.loads(result.stdout)] == [(True, "mend the file")]


def test_the_doctor_finds_the_versions_of_a_dataset_that_was_renamed(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    def abandoned() -> list[dict[str, str]]:
        return [one for one in json.loads(cli("doctor", "--json").stdout) if "has versions" in one["what"]]

    read_ground_truth(instance, "yelp")
    assert abandoned() == []
    (tmp_path / "configs/yelp").rename(tmp_path / "configs/food")
    (one,) = abandoned()
    folder = tmp_path / "out/yelp/versions"
    assert one["what"] == f"{folder}: has versions of yelp, which is no dataset any more"
    assert f"rm -r {folder}/*/yelp" in one["done"]
    shutil.rmtree(folder / "ground_truth/yelp")
    assert abandoned() == []


def test_the_doctor_finds_them_in_a_bucket(
    instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def abandoned() -> list[dict[str, str]]:
        return [one for one in json.loads(cli("doctor", "--json").stdout) if "has versions" in one["what"]]

    with object_store() as bucket:
        monkeypatch.setenv("PERSONARANK_OUT_ROOT", f"{bucket}/lists")
        monkeypatch.setenv("PERSONARANK_WORK_DIR", str(tmp_path / "work"))
        read_ground_truth(instance, "yelp")
        (tmp_path / "configs/yelp").rename(tmp_path / "configs/food")
        (one,) = abandoned()
        assert one["what"] == f"{bucket}/lists/yelp/versions: has versions of yelp, which is no dataset any more"
        assert f"remove {bucket}/lists/yelp/versions/*/yelp from the store" in one["done"]
        S3FileSystem().rm("bucket/lists/yelp/versions", recursive=True)
        assert abandoned() == []


def test_a_reranker_names_both_where_a_renamed_dataset_kept_its_out_root(tmp_path: Path) -> None:
    for name in ("yelp", "food"):
        folder = tmp_path / "versions/interaction_cache" / name
        folder.mkdir(parents=True)
        (folder / "CURRENT").write_text("v\n")
    with pytest.raises(
        StorageError, match="expected one dataset with interaction_cache, got food, yelp; `personarank doctor`"
    ):
        Reranker(tmp_path).persona("P")


def test_a_run_of_a_removed_dataset_says_which_there_are(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    remove(tmp_path)
    result = defs.resolve_job_def("data_validation_job").execute_in_process(
        instance=instance, partition_key="yelp", raise_on_error=False, asset_selection=[dg.AssetKey("ground_truth")]
    )
    (failed,) = [event for event in result.all_events if event.is_step_failure]
    assert "unknown dataset 'yelp'; " in str(failed.step_failure_data.error)
