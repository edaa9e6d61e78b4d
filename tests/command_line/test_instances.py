"""Runs of another root or configuration are in a Dagster instance of their own."""

import os
import re
import shutil
from pathlib import Path

import dagster as dg
import pytest

from personarank_dagster.command_line.instances import Root, chosen_root, project_root, shown_by, use_instance
from tests.killable import TinyWorkspace, edit

RUN = ("run", "--select", "ground_truth,candidates", "--force")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> TinyWorkspace:
    workspace = TinyWorkspace(tmp_path_factory.mktemp("roots"))
    shutil.copytree(workspace.folder / "configs", workspace.folder / "others")
    (workspace.folder / "broken.jsonl").write_text("{}\n")
    broken = {"../../data/1/amazon/gt.jsonl.gz": "../broken.jsonl", "outputs/amazon": "outputs/tried"}
    edit(workspace.folder / "others/amazon/data.yaml", broken)
    assert workspace.call(*RUN).code == 0
    return workspace


def seen(workspace: TinyWorkspace, home: str = "") -> dict[str, object]:
    """What an instance knows: its runs, and of each asset the last events, of which the UI makes the lineage."""
    with dg.DagsterInstance.from_config(str(workspace.folder / home)) as instance:
        keys = instance.all_asset_keys()
        records = {one.asset_entry.asset_key.to_user_string(): one for one in instance.get_asset_records(keys)}
        runs = {run.run_id: run.status for run in instance.get_runs()}
    entries = {name: record.asset_entry for name, record in records.items()}
    return {"runs": runs, **{name: (one.last_materialization, one.last_run_id) for name, one in entries.items()}}


@pytest.mark.parametrize(
    ("arguments", "code", "home"),
    [
        (("--out-root", "second"), 0, "second/.dagster/configs"),
        (("--config-dir", "others"), 1, "outputs/others/.dagster/others"),
        (("--config-dir", "others", "--out-root", "second"), 1, "second/others/.dagster/others"),
    ],
)
def test_a_run_in_another_root_leaves_the_instance_of_the_project_as_it_was(
    workspace: TinyWorkspace, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: int, home: str
) -> None:
    monkeypatch.chdir(workspace.folder)
    before = seen(workspace)
    ended = workspace.call(*RUN, *arguments)
    assert ended.code == code, ended.output
    assert re.search(r"^its runs are in an instance of its own: personarank ui --", ended.output, re.MULTILINE)
    assert seen(workspace) == before
    assert "ground_truth" in seen(workspace, home)


def test_assets_of_a_run_are_counted_as_they_begin(workspace: TinyWorkspace) -> None:
    told = workspace.call(*RUN, "--out-root", "counted").output
    assert re.findall(r"^amazon: (\d)/2 \w+, after \d+ s$", told, re.MULTILINE) == ["1", "2"]


def test_every_run_says_where_its_outputs_are(workspace: TinyWorkspace) -> None:
    ended = workspace.call(*RUN, "--config-dir", "configs")
    assert f"outputs: {workspace.folder / 'outputs/amazon'}\n" in ended.output
    assert "an instance of its own" not in ended.output


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a dagster.yaml whose storage is a server, and an environment that says nothing."""
    monkeypatch.chdir(tmp_path)
    for variable in ("DAGSTER_HOME", "PERSONARANK_CONFIG_DIR", "PERSONARANK_OUT_ROOT", "PERSONARANK_WORK_DIR"):
        # Set first, so that what the test sets goes away with it.
        monkeypatch.setenv(variable, "")
    (tmp_path / "dagster.yaml").write_text("storage: {postgres: {}}\nnux: {enabled: false}\n")
    return tmp_path


def test_an_instance_of_its_own_keeps_the_settings_and_not_the_storage(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERSONARANK_OUT_ROOT", "s3://bucket/tried")
    use_instance(project_root())
    home = project / "outputs/.dagster/configs-s3-bucket-tried"
    assert os.environ["DAGSTER_HOME"] == str(home)
    assert (home / "dagster.yaml").read_text() == "nux:\n  enabled: false\n"
    assert shown_by() == "personarank ui --out-root s3://bucket/tried"


def test_the_instance_of_the_environment_is_that_of_its_root(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(project))
    monkeypatch.setenv("PERSONARANK_CONFIG_DIR", "sets")
    assert project_root() == chosen_root() == Root(os.path.realpath("sets"))
    use_instance(project_root())
    assert (os.environ["DAGSTER_HOME"], shown_by()) == (str(project), "")
