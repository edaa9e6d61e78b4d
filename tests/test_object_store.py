"""The commands on versions in an object store, against a real S3 API."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from personarank_dagster.defs.graph import all_assets  # noqa: F401 - declares the assets
from personarank_dagster.defs.platform.declarations import asset_names
from tests.killable import TinyWorkspace, edit
from tests.object_store import object_store

INPUTS = "personas,candidates,ground_truth"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyWorkspace]:
    with object_store() as address:
        workspace = TinyWorkspace(tmp_path_factory.mktemp("object_store"))
        edit(workspace.folder / "configs/amazon/data.yaml", {"../../outputs/amazon": f"{address}/here/amazon"})
        assert workspace.call("run", "--select", INPUTS).code == 0
        yield workspace


def listed(workspace: TinyWorkspace, *arguments: str) -> list[dict]:
    ended = workspace.call(*arguments, "--json")
    assert ended.code == 0, ended.output
    return json.loads(ended.output)


def test_the_commands_work_there(workspace: TinyWorkspace) -> None:
    assert workspace.call("run", "--select", "ground_truth", "--force").code == 0
    first, second = (one["version"] for one in listed(workspace, "versions", "ground_truth"))
    assert workspace.call("rollback", "ground_truth", "amazon").code == 0
    assert [one["current"] for one in listed(workspace, "versions", "ground_truth")] == [True, False]
    assert [one["damage"] for one in listed(workspace, "verify")] == [[]] * 4
    assert listed(workspace, "doctor") == []
    assert listed(workspace, "gc", "--keep", "1") == []  # one is the newest, one is current
    assert workspace.call("rollback", "ground_truth", "amazon", second).code == 0
    assert [one["version"] for one in listed(workspace, "gc", "--keep", "1")] == [first]


def test_another_machine_reads_copies_and_goes_on(workspace: TinyWorkspace, tmp_path: Path) -> None:
    edit(workspace.folder / "configs/amazon/data.yaml", {"schema: amazon": f"schema: amazon\nwork_dir: {tmp_path}"})
    ended = workspace.call("run", "--select", "selected_personas")
    assert ended.code == 0, ended.output
    assert {path.name for path in (tmp_path / "copies").iterdir()} == {"personas", "selected_personas"}


@pytest.mark.skipif("PERSONARANK_KILLS" not in os.environ, reason="a whole run there takes a while: make torture")
def test_a_whole_run_keeps_its_versions_there_and_links_to_copies_here(workspace: TinyWorkspace) -> None:
    assert workspace.call("run").code == 0
    assert {one["asset"] for one in listed(workspace, "versions") if one["current"]} == {*asset_names()}
    link = next(workspace.folder.parent.glob("*/rerank/metrics.json"))
    assert "copies/rerank_metrics/amazon" in str(link.resolve())
    assert json.loads(link.read_text())["users"] > 0
    assert "up to date" in workspace.call("run").output
