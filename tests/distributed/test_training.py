"""Training on two nodes: the losses of one process, also where a node is removed on the way."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from personarank_dagster.configuration.dataset import load_dataset
from personarank_dagster.core.errors import ConfigError, EncoderError
from personarank_dagster.distributed import training as module
from personarank_dagster.distributed.cluster import Cluster
from personarank_dagster.distributed.training import Ranks, train_on_ray
from personarank_dagster.raw.ingestion import read_histories, read_personas, read_selections
from tests.distributed.test_runs import pytestmark as in_torture
from tests.distributed.test_runs import wait_until
from tests.killable import TinyWorkspace, edit

# Without dropout, whose random numbers are those of a rank, and in fp32.
PLAIN = {
    "tune: head": "tune: full",
    "negatives: catalogue": "negatives: batch",
    "dropout: true": "dropout: false",
    "amp: true": "amp: false",
    "max_steps: 12": "max_steps: 30",
}


def losses(job: Any) -> list[float]:
    record = json.loads((job.out / "encoder/training.json").read_text())
    return [*record["losses"], *record["refit_losses"]]


def another(job: Any, name: str) -> Any:
    out = job.out.parent / name
    (out / "checkpoints").mkdir(parents=True)
    return replace(job, out=out, checkpoints=out / "checkpoints")


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A training from the tables of a tiny dataset."""
    from personarank_dagster.encoding.train import RankJob

    folder = tmp_path_factory.mktemp("training")
    workspace = TinyWorkspace(folder)
    edit(workspace.folder / "configs/amazon/train.yaml", PLAIN)
    config = load_dataset(folder / "configs", "amazon")
    files = config.data.raw_files
    personas = read_personas(files["persona"]).frame
    tables: dict[str, pl.DataFrame] = {
        "personas": personas,
        "histories": read_histories(files["loo_history"], "amazon").frame,
        "selections": read_selections(files["selected"], personas).frame,
    }
    for name, table in tables.items():
        table.write_parquet(folder / f"{name}.parquet")
    paths = (folder / "personas.parquet", folder / "histories.parquet", folder / "selections.parquet")
    return another(RankJob(config, paths, folder / "out", None, "cpu", "fp32", 1.0), "job")


@pytest.fixture(scope="module")
def expected(job: Any) -> list[float]:
    """The losses of one process."""
    from personarank_dagster.encoding.train import train_rank

    here = another(job, "here")
    train_rank(here, lambda *step: None)
    return losses(here)


def test_two_nodes_learn_what_one_process_learns(job: Any, expected: list[float], address: str) -> None:
    there, said = another(job, "two"), list[str]()
    train_on_ray(there, 2, Cluster(address), said.append)
    assert any("loss" in line for line in said)
    assert np.allclose(losses(there), expected, rtol=0, atol=1e-5)


@in_torture
def test_a_training_goes_on_without_a_node_that_is_removed(
    job: Any, expected: list[float], nodes: Any, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REPLACEMENT_SECONDS", 0)
    there, said = another(job, "removed"), list[str]()
    with removed(nodes, lambda: any(there.checkpoints.glob("checkpoint-*/whole"))):
        train_on_ray(there, 3, Cluster(address), said.append)
    assert sum("a rank was lost" in line for line in said) == 1
    assert np.allclose(losses(there), expected, rtol=0, atol=1e-5)


@contextmanager
def removed(nodes: Any, moment: Callable[[], bool]) -> Iterator[None]:
    """With a third node, which is removed at a moment."""
    node = nodes.add_node(num_cpus=1)
    removal = threading.Thread(
        target=lambda: (wait_until(moment, 120), nodes.remove_node(node, allow_graceful=False))
    )
    removal.start()
    yield
    removal.join()


def test_a_failing_rank_fails_the_training_with_its_own_error(job: Any, address: str) -> None:
    with (
        Ranks(Cluster(address), 1) as ranks,
        pytest.raises(EncoderError, match=r"^trained_encoder: rank 0 failed: StorageError: none: is not there on a"),
    ):
        ranks.train(replace(job, out=Path("none")), lambda: None)


def test_ranks_that_no_node_has_room_for_are_an_error(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "START_SECONDS", 0)
    with pytest.raises(
        ConfigError, match=r"9 ranks of 1 CPUs and 0 GPUs must have room within 0 s; the cluster has "
    ):
        Ranks(Cluster(address), 9)
