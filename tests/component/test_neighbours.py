"""The example: a table of the team feeds the graph, and assets of theirs read what it made."""

import importlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl
import pytest

from personarank_dagster.component.component import PersonaRankComponent
from personarank_dagster.defs.automation.due import scheduled_run
from personarank_dagster.defs.automation.jobs import dataset_jobs
from personarank_dagster.defs.automation.runs import reasons_to_run
from personarank_dagster.defs.platform.resources import ProjectResource
from personarank_dagster.sample.files import write_dataset_files
from tests.killable import TRAINING, edit, tiny_model
from tests.workspace import ROOT

HISTORIES, COPY = dg.AssetKey(["warehouse", "histories"]), dg.AssetKey(["search", "books", "raw", "loo_history"])
LISTS, PLACES = dg.AssetKey(["search", "books", "reranked_candidates"]), dg.AssetKey(["exports", "first_places"])


class Team:
    """A copy of the example with a small dataset, its definitions, and its instance."""

    def __init__(self, folder: Path, instance: dg.DagsterInstance) -> None:
        self.folder, self.instance = folder / "examples" / "neighbours", instance
        self.definitions = importlib.import_module("team.definitions").defs()
        component = PersonaRankComponent(
            config_dir=str(self.folder / "configs"),
            key_prefix=["search", "books"],
            raw_assets={"loo_history": ["warehouse", "histories"]},
        )
        self.project = ProjectResource(mount=component.mount)

    def make(self, *keys: dg.AssetKey, partition: str | None = "books") -> dg.ExecuteInProcessResult:
        """Materialise these assets in one run."""
        job = self.definitions.resolve_implicit_global_asset_job_def()
        return job.execute_in_process(
            instance=self.instance, asset_selection=[*keys], partition_key=partition, raise_on_error=False
        )

    def read(self, key: dg.AssetKey, partition: str | None = None) -> pl.DataFrame:
        """What their IO manager has of one of their assets."""
        path = self.folder.joinpath("outputs", "warehouse", *key.path, *([partition] if partition else []))
        return pl.read_parquet(path.with_suffix(".parquet"))

    def mine(self, asset: str) -> pl.DataFrame:
        """The current table of an asset of the graph."""
        outputs = self.project.outputs("books")
        return outputs.format(asset).read(outputs.versions(asset).current().directory)


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    folder = tmp_path_factory.mktemp("neighbours")
    shutil.copytree(ROOT / "examples" / "neighbours", folder / "examples" / "neighbours")
    write_dataset_files(folder / "data" / "sample" / "amazon", "amazon", num_users=30, seed=1)
    train = folder / "examples/neighbours/configs/books/train.yaml"
    edit(train, {"bundled:all-MiniLM-L6-v2": tiny_model(), **TRAINING})
    with pytest.MonkeyPatch.context() as patch, dg.instance_for_test() as instance:
        patch.syspath_prepend(str(folder / "examples" / "neighbours"))
        yield Team(folder, instance)
        for name in [name for name in sys.modules if name.split(".")[0] == "team"]:
            del sys.modules[name]


@pytest.fixture(scope="module")
def made(team: Team) -> Team:
    """The same after one run from their table to their export, and one of what spans partitions."""
    assert team.make(HISTORIES, partition=None).success
    job = dataset_jobs()["full_refresh_job"]
    names = [name for name in job.names(team.project.mount) if name not in ("key_value_lists", "warehouse_lists")]
    assert team.make(*team.project.mount.keys(names), PLACES).success
    assert team.make(dg.AssetKey(["exports", "gains"]), partition=None).success
    return team


def test_lineage_goes_from_their_table_to_the_lists_to_their_export(team: Team) -> None:
    graph = team.definitions.resolve_asset_graph()
    ancestors = graph.get_ancestor_asset_keys(PLACES)
    assert {HISTORIES, COPY, LISTS} <= ancestors
    assert graph.get(COPY).parent_keys == {HISTORIES}


def test_a_reader_of_a_table_that_nothing_was_copied_of_says_what_to_do(team: Team) -> None:
    result = team.make(dg.AssetKey(["search", "books", "histories"]))
    (failure,) = result.get_step_failure_events()
    message = failure.step_failure_data.error.to_string()
    assert (
        "histories (books): needs raw/loo_history, of which nothing is copied from warehouse/histories yet" in message
    )


def test_their_table_is_read_as_the_file_would_be(made: Team) -> None:
    histories = made.mine("histories")
    assert histories.height == made.read(HISTORIES)["reviews"].list.len().sum()
    provenance = made.project.versions("histories", "books").current().manifest.provenance
    assert set(provenance.inputs) == {"raw/loo_history", "raw/item_summary", "raw/aspects", "raw/gt"}


def test_their_assets_get_frames_of_what_is_published(made: Team) -> None:
    places, lists = made.read(PLACES, "books"), made.mine("reranked_candidates")
    assert places.height == lists["user_id"].n_unique()
    vectors = places.drop_nulls("vector")["vector"]
    assert vectors.dtype == pl.Array(pl.Float32, 16)
    assert np.linalg.norm(vectors.to_numpy(), axis=1) == pytest.approx(1, abs=1e-3)
    gains = made.read(dg.AssetKey(["exports", "gains"]))
    metrics = made.mine("rerank_metrics").filter(scenario="all", metric="NDCG", k=10)
    assert gains.row(0) == ("books", *metrics.select("candidate", "reranked", "lift").row(0))


def test_a_table_that_was_made_anew_is_copied_by_the_next_tick_and_counts_as_far_as_it_changed(made: Team) -> None:
    mount, assets = made.project.mount, dataset_jobs()["data_validation_job"].assets
    assert isinstance(scheduled_run(made.project, "books", assets, made.instance), dg.SkipReason)
    assert made.make(HISTORIES, partition=None).success
    request = scheduled_run(made.project, "books", assets, made.instance)
    assert isinstance(request, dg.RunRequest)
    assert {key.path[-1] for key in request.asset_selection or ()} >= {"loo_history", "histories"}
    assert request.tags["reason"] == "warehouse/histories changed"
    assert made.make(mount.key("raw/loo_history")).success
    assert reasons_to_run(made.project, ["histories"], "books") == {}
    assert isinstance(scheduled_run(made.project, "books", assets, made.instance), dg.SkipReason)


def test_a_row_that_breaks_a_rule_is_named_as_in_a_file(made: Team) -> None:
    path = made.project.dataset("books").data.raw_files["loo_history"]
    frame = pl.read_parquet(path)
    frame.with_columns(user_id=pl.lit(None, pl.String)).write_parquet(path)
    result = made.make(dg.AssetKey(["search", "books", "histories"]))
    frame.write_parquet(path)
    message = result.get_step_failure_events()[0].step_failure_data.error.to_string()
    assert "raw_assets/loo_history.parquet: every line, field user_id: expected text, got null in line 1" in message
