"""What the IO manager gives to an asset, and what it says of an output. On the committed sample data."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from personarank_dagster.core import schemas
from personarank_dagster.definitions import defs, project
from personarank_dagster.defs.automation.runs import execute, plan_run
from personarank_dagster.defs.inputs.assets import personas as personas_asset
from personarank_dagster.defs.platform.io.io_manager import VersionedIOManager
from personarank_dagster.defs.platform.steps import Handed
from personarank_dagster.storage.manifests import Provenance
from personarank_dagster.storage.versions import Version


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    """An instance in which the personas of both datasets are published."""
    with pytest.MonkeyPatch.context() as patch, dg.instance_for_test() as instance:
        patch.setenv("PERSONARANK_OUT_ROOT", str(tmp_path_factory.mktemp("out")))
        for name in ("amazon", "yelp"):
            assert execute(defs, plan_run(defs, project, name, select="personas"), instance).failures == {}
        yield instance


def read_personas(instance: dg.DagsterInstance, annotation: Any, metadata: dict[str, Any] | None = None) -> Any:
    """What an asset of the dataset `amazon` gets that asks for the personas so."""
    return _read(instance, annotation, "selected_personas", metadata, project.mount.partitions, None)


def read_all_personas(instance: dg.DagsterInstance, annotation: Any) -> Any:
    """What an asset without partitions gets that asks for the personas of all datasets."""
    return _read(instance, annotation, "metrics_report", None, None, dg.AllPartitionMapping())


def _read(
    instance: dg.DagsterInstance, annotation: Any, name: str, metadata: Any, partitions_def: Any, mapping: Any
) -> Any:
    given: list[Any] = []

    def read(personas):  # type: ignore[no-untyped-def]
        given.append(personas)

    read.__annotations__["personas"] = annotation
    asset_in = dg.AssetIn(metadata=metadata, partition_mapping=mapping)
    reader = dg.asset(name=name, partitions_def=partitions_def, ins={"personas": asset_in}, io_manager_key="memory")(
        read
    )
    resources = {
        "io_manager": VersionedIOManager(project=project),
        "project": project,
        "memory": dg.mem_io_manager,
    }
    result = dg.materialize(
        [personas_asset(project.mount), dg.AssetSpec("item_personas"), reader],
        selection=[reader],
        partition_key="amazon" if partitions_def else None,
        resources=resources,
        instance=instance,
        raise_on_error=False,
    )
    if not result.success:
        raise AssertionError(result.get_step_failure_events()[0].step_failure_data.error.to_string())
    return given[0]


def test_a_table_is_read_lazily_or_eagerly_as_the_annotation_says(instance: dg.DagsterInstance) -> None:
    eager, lazy = (read_personas(instance, annotation) for annotation in (pl.DataFrame, pl.LazyFrame))
    assert isinstance(eager, pl.DataFrame)
    assert isinstance(lazy, pl.LazyFrame)
    assert lazy.collect().equals(eager)


@pytest.mark.parametrize("annotation", [pl.DataFrame, pl.LazyFrame])
def test_only_the_columns_are_read_that_the_input_names(instance: dg.DagsterInstance, annotation: Any) -> None:
    names = ["unique_persona_id", "item_id"]
    table = read_personas(instance, annotation, {"columns": names})
    assert isinstance(table, annotation)
    assert table.lazy().collect().equals(read_personas(instance, pl.DataFrame).select(names))


def test_a_column_that_is_not_there_is_named(instance: dg.DagsterInstance) -> None:
    with pytest.raises(AssertionError, match=r"personas \(amazon\): has no column nmae; it has item_id, "):
        read_personas(instance, pl.DataFrame, {"columns": ["nmae"]})


@pytest.mark.parametrize("kind", [pl.DataFrame, pl.LazyFrame])
def test_an_asset_without_partitions_gets_all_of_them_by_name(instance: dg.DagsterInstance, kind: Any) -> None:
    tables = read_all_personas(instance, dict[str, kind])
    assert tables.keys() == {"amazon", "yelp"}
    for name, table in tables.items():
        assert isinstance(table, kind)
        assert table.lazy().select(pl.len()).collect().item() == rows(name)


def personas_of(partition: str) -> Version:
    return project.versions("personas", partition).current()


def rows(partition: str) -> int:
    return int(personas_of(partition).manifest.details["rows"])


def test_the_metadata_say_rows_and_columns_and_no_values(instance: dg.DagsterInstance) -> None:
    event = instance.get_latest_materialization_event(dg.AssetKey("personas"))
    assert event is not None
    assert event.asset_materialization is not None
    metadata = event.asset_materialization.metadata
    assert next(iter(metadata)) == "distributions"
    assert metadata["dagster/row_count"].value == rows("yelp")
    assert "dagster/column_schema" not in metadata
    schema = metadata["columns"].value
    assert {column.name: column.type for column in schema.columns} == {
        name: str(dtype) for name, dtype in schemas.PERSONAS.items()
    }
    names = set(project.outputs("yelp").format("personas").read(personas_of("yelp").directory)["name"])
    assert not any(name in str(value) for name in names for value in metadata.values())


def test_a_broken_contract_is_not_retried_and_leaves_no_trace(
    instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERSONARANK_OUT_ROOT", str(tmp_path))
    tries: list[int] = []

    @dg.asset(partitions_def=project.mount.partitions, retry_policy=dg.RetryPolicy(max_retries=3))
    def ground_truth() -> dg.MaterializeResult[Any]:
        tries.append(1)
        repeated = pl.DataFrame({"user_id": ["u", "u"], "item_id": ["i", "i"]}, schema=schemas.GROUND_TRUTH)
        handed = Handed(repeated, "d" * 8, Provenance(code_version="1"), lambda staged: [])
        return dg.MaterializeResult(value=handed)

    result = dg.materialize(
        [ground_truth],
        partition_key="amazon",
        resources={"io_manager": VersionedIOManager(project=project)},
        instance=instance,
        raise_on_error=False,
    )
    assert (result.success, len(tries), result.asset_materializations_for_node("ground_truth")) == (False, 1, [])
    store = project.versions("ground_truth", "amazon")
    assert (store.names(), list(store.root.iterdir())) == ([], [])
