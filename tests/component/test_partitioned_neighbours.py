"""A table of others with a partition for each dataset, and some more: each dataset is fed by its own."""

from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from personarank_dagster import build_definitions
from personarank_dagster.component.mounted import mount_of
from personarank_dagster.defs.automation.due import scheduled_run
from personarank_dagster.defs.automation.jobs import dataset_jobs
from personarank_dagster.defs.platform.resources import ProjectResource
from tests.workspace import copy_sample

HISTORIES = dg.AssetKey(["warehouse", "histories"])
RAW_ASSETS = {"loo_history": HISTORIES.path}


@dg.asset(key=HISTORIES, partitions_def=dg.StaticPartitionsDefinition(["amazon", "yelp", "archive"]))
def histories(context: dg.AssetExecutionContext) -> pl.DataFrame:
    """A row that names its partition."""
    return pl.DataFrame({"user_id": [context.partition_key], "reviews": [[]]})


class Kept(dg.IOManager):
    """Tables in memory, by asset and partition."""

    def __init__(self) -> None:
        self.tables: dict[tuple[str, ...], pl.DataFrame] = {}

    def handle_output(self, context: dg.OutputContext, obj: pl.DataFrame) -> None:
        self.tables[*context.get_asset_identifier()] = obj

    def load_input(self, context: dg.InputContext) -> pl.DataFrame:
        return self.tables[*context.get_asset_identifier()]


class Beside:
    """The sample's datasets below a table that is partitioned, and an instance."""

    def __init__(self, folder: Path, instance: dg.DagsterInstance) -> None:
        copy_sample(folder)
        for path in (folder / "configs").glob("*/data.yaml"):
            lines = path.read_text().splitlines(keepends=True)
            path.write_text("".join(line for line in lines if not line.startswith("loo_history")))
        graph = build_definitions(folder / "configs", raw_assets=RAW_ASSETS)
        theirs = dg.Definitions(assets=[histories], resources={"io_manager": Kept()})
        self.definitions, self.instance = dg.Definitions.merge(graph, theirs), instance
        self.project = ProjectResource(mount=mount_of(folder / "configs", raw_assets=RAW_ASSETS))
        self.copy = self.project.mount.key("raw/loo_history")

    def make(self, *keys: dg.AssetKey, partition: str) -> bool:
        job = self.definitions.resolve_implicit_global_asset_job_def()
        selection = [*keys]
        return job.execute_in_process(
            instance=self.instance, asset_selection=selection, partition_key=partition
        ).success

    def is_to_be_copied(self, dataset: str) -> bool:
        """Whether the next tick of the dataset's schedule copies the table."""
        assets = dataset_jobs()["data_validation_job"].assets
        request = scheduled_run(self.project, dataset, assets, self.instance)
        return isinstance(request, dg.RunRequest) and self.copy in (request.asset_selection or ())


@pytest.fixture
def beside(tmp_path: Path) -> Beside:
    return Beside(tmp_path, dg.DagsterInstance.ephemeral())


def test_each_dataset_has_a_copy_of_the_partition_that_is_called_like_it(beside: Beside) -> None:
    for name in ("amazon", "yelp"):
        assert beside.make(HISTORIES, partition=name)
        assert beside.make(beside.copy, partition=name)
    for name in ("amazon", "yelp"):
        path = beside.project.dataset(name).data.raw_files["loo_history"]
        assert pl.read_parquet(path)["user_id"].to_list() == [name]


def test_a_partition_that_was_made_anew_is_copied_for_its_dataset_alone(beside: Beside) -> None:
    for name in ("amazon", "yelp"):
        assert beside.make(HISTORIES, partition=name)
        assert beside.make(beside.copy, partition=name)
    assert not beside.is_to_be_copied("amazon")
    assert beside.make(HISTORIES, partition="amazon")
    assert beside.make(HISTORIES, partition="archive")
    assert beside.is_to_be_copied("amazon")
    assert not beside.is_to_be_copied("yelp")
