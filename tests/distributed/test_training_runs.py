"""Whole runs that train on two nodes, killed on the way: the bytes of as many ranks of one machine."""

import signal
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from tests.distributed.test_runs import _processes, pytestmark, wait_until
from tests.killable import TinyWorkspace, edit, sight

__all__ = ["pytestmark"]

TRAINED = ("run", "--partition", "amazon", "--select", "+trained_encoder", "--out-root")
TWO_RANKS = {"tune: head": "tune: full", "num_gpus: 1": "num_gpus: 2", "negatives: catalogue": "negatives: batch"}


def version(workspace: TinyWorkspace, out_root: str) -> str:
    return workspace.current(out_root)["trained_encoder"].manifest.data_version


def ranks(nodes: Any) -> list[psutil.Process]:
    """Those that train on the nodes of the cluster."""
    raylets = [one for node in nodes.list_all_nodes() for one in _processes(node, "raylet")]
    children = [child for raylet in raylets for child in psutil.Process(raylet).children(recursive=True)]
    return [child for child in children if child.is_running() and child.name().startswith("ray::Rank")]


@pytest.fixture(scope="module")
def workspace(nodes: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyWorkspace]:
    """One whose runs are on the cluster; the root `expected` is of torchrun."""
    made = TinyWorkspace(tmp_path_factory.mktemp("training_runs"))
    edit(made.folder / "configs/amazon/train.yaml", TWO_RANKS)
    assert made.call(*TRAINED, "expected").code == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERSONARANK_ENGINE", "ray")
        patch.setenv("PERSONARANK_RAY_ADDRESS", nodes.address)
        yield made


def test_no_rank_outlives_a_killed_run_and_the_next_run_continues(workspace: TinyWorkspace, nodes: Any) -> None:
    written = sight(workspace.folder, "killed/amazon/staging/trained_encoder-*/checkpoint-*/whole")
    assert workspace.call(*TRAINED, "killed", moment=written).code == -signal.SIGKILL
    wait_until(lambda: ranks(nodes) == [])
    ended = workspace.call(*TRAINED, "killed")
    assert ended.code == 0, ended.output
    assert version(workspace, "killed") == version(workspace, "expected")


def test_no_rank_outlives_a_terminated_run(workspace: TinyWorkspace, nodes: Any) -> None:
    with workspace.start(*TRAINED, "terminated") as process:
        wait_until(lambda: ranks(nodes) != [], 240)
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 128 + signal.SIGTERM
    wait_until(lambda: ranks(nodes) == [], 10)
