"""The hand-over as part of a run: off unless configured, and not again unless the lists changed."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from personarank_dagster.configuration.export_settings import RedisExport
from personarank_dagster.definitions import defs, project
from personarank_dagster.defs.automation.runs import Outcome, execute, plan_run
from personarank_dagster.defs.graph import output_format
from personarank_dagster.handover.key_value import Keys, connect, read_list
from personarank_dagster.storage.versions import Provenance
from tests.handover.conftest import make_lists, server  # noqa: F401 - a fixture
from tests.workspace import copy_sample

HANDED = "key_value_lists,warehouse_lists"
LISTS = {"u1": [("i1", 0.9), ("i2", 0.5)], "u2": [("i2", 0.5)]}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy_sample(tmp_path)
    monkeypatch.setenv("PERSONARANK_CONFIG_DIR", str(tmp_path / "configs"))
    monkeypatch.setenv("PERSONARANK_OUT_ROOT", str(tmp_path / "out"))
    return tmp_path


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as instance:
        yield instance


def publish(lists: dict, data_version: str) -> str:
    form = output_format("reranked_candidates", "amazon")
    made_from = Provenance(code_version="1", inputs={})
    store = project.versions("reranked_candidates", "amazon")
    table = make_lists(lists)
    write = lambda place: form.write(table, place)  # noqa: E731 - one line
    return store.publish(write, run_id="", data_version=data_version, provenance=made_from).name


def configure(folder: Path, text: str) -> None:
    (folder / "configs/amazon/export.yaml").write_text(text)


def run(instance: dg.DagsterInstance, *, force: bool = False) -> Outcome:
    return execute(defs, plan_run(defs, project, "amazon", select=HANDED, force=force), instance)


def test_without_export_yaml_no_run_plans_a_hand_over(folder: Path) -> None:
    publish(LISTS, "1")
    assert not {"key_value_lists", "warehouse_lists"} & plan_run(defs, project, "amazon").reasons.keys()
    configure(folder, "parquet: {folder: ../../lists}\n")
    assert plan_run(defs, project, "amazon", select=HANDED).reasons == {"warehouse_lists": "never materialised"}


def test_lists_are_written_once_for_each_version(folder: Path, instance: dg.DagsterInstance) -> None:
    configure(folder, "parquet: {folder: ../../lists}\n")
    version = publish(LISTS, "1")
    assert run(instance).failures == {}
    (path,) = (folder / "lists").glob("dataset=*/version=*/*.parquet")
    assert path.parent.name == f"version={version}"
    assert pl.read_parquet(path, hive_partitioning=False)["user_id"].to_list() == ["u1", "u1", "u2"]
    assert run(instance).plan.reasons == {}
    publish({"u1": LISTS["u1"]}, "2")
    assert run(instance).plan.reasons == {"warehouse_lists": "reranked_candidates changed"}


def test_the_store_gets_what_changed(folder: Path, instance: dg.DagsterInstance, server: RedisExport) -> None:  # noqa: F811
    configure(folder, f"redis: {{url: '{server.url}', prefix: of-a-run}}\n")
    publish(LISTS, "1")
    assert run(instance).failures == {}
    publish(LISTS | {"u2": [("i7", 1.0)]}, "2")
    assert run(instance).failures == {}
    event = instance.get_latest_materialization_event(dg.AssetKey("key_value_lists"))
    told = {name: value.value for name, value in event.asset_materialization.metadata.items()}
    assert (told["users"], told["sent"], told["copied"]) == (2, 1, 1)
    with connect(server) as client:
        assert read_list(client, Keys("of-a-run", "amazon"), "u2") == {"items": ["i7"], "scores": [1.0]}
