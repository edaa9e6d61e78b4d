"""Whole runs of the command line on two nodes: the bytes of a run without Ray, whatever is killed or removed."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from personarank_dagster.defs.automation.runs import REPORT
from tests.killable import TinyWorkspace, content, sight

# Shards of a few texts, so that something can happen between them.
SMALL_SHARDS = {
    "personarank_dagster.distributed.encoding:MIN_TEXTS": 4,
    "personarank_dagster.distributed.encoding:SHARDS_PER_ACTOR": 30,
    "personarank_dagster.distributed.ranking:MIN_PAIRS": 4,
}
BLOCKS = "amazon/vectors/*/*.keys.npy"
# What is to be seen in the midst of encoding, and of ranking.
MIDST = {"encoding": (BLOCKS, 5), "ranking": ("amazon/scratch/*/parts-*/*.parquet", 1)}

pytestmark = pytest.mark.skipif(
    not os.environ.get("PERSONARANK_CLUSTER_RUNS"),
    reason="takes minutes: PERSONARANK_CLUSTER_RUNS=1, or make torture",
)


class OnRay:
    """A workspace whose runs are on the cluster, and what a run without it makes."""

    def __init__(self, folder: Path, nodes: Any) -> None:
        self.workspace, self.nodes = TinyWorkspace(folder), nodes
        assert self.workspace.call("run", "--out-root", "expected").code == 0
        self.expected = self.content("expected")

    def content(self, out_root: str) -> dict[str, tuple[str, ...]]:
        return content_of(self.workspace, out_root)

    def run(self, out_root: str, moment: Callable[[], bool] | None = None) -> int:
        return self.workspace.call("run", "--out-root", out_root, moment=moment, constants=SMALL_SHARDS).code

    def midst(self, work: str, out_root: str) -> Callable[[], bool]:
        return sight(self.workspace.folder / out_root, *MIDST[work])

    def actors(self) -> list[psutil.Process]:
        """Processes that work on the nodes of the cluster."""
        raylets = [one for node in self.nodes.list_all_nodes() for one in _processes(node, "raylet")]
        children = [child for raylet in raylets for child in psutil.Process(raylet).children(recursive=True)]
        return [child for child in children if child.is_running() and child.name().startswith("ray::Actor")]


@pytest.fixture(scope="module")
def on_ray(nodes: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnRay]:
    with pytest.MonkeyPatch.context() as patch:
        made = OnRay(tmp_path_factory.mktemp("on_ray"), nodes)
        patch.setenv("PERSONARANK_ENGINE", "ray")
        patch.setenv("PERSONARANK_RAY_ADDRESS", nodes.address)
        yield made


def test_two_nodes_make_the_bytes_of_one_machine(on_ray: OnRay) -> None:
    assert on_ray.run("undisturbed") == 0
    assert on_ray.content("undisturbed") == on_ray.expected


@pytest.mark.parametrize("work", MIDST)
def test_nothing_of_a_killed_run_works_on_and_the_next_one_continues(on_ray: OnRay, work: str) -> None:
    out_root = f"killed-{work}"
    assert on_ray.run(out_root, on_ray.midst(work, out_root)) == -signal.SIGKILL
    wait_until(lambda: on_ray.actors() == [], 10)
    assert on_ray.run(out_root) == 0
    assert on_ray.content(out_root) == on_ray.expected


def test_nothing_of_a_terminated_run_works_on(on_ray: OnRay) -> None:
    with on_ray.workspace.start("run", "--out-root", "terminated") as process:
        wait_until(lambda: on_ray.actors() != [], 120)
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 128 + signal.SIGTERM
    wait_until(lambda: on_ray.actors() == [], 5)


@pytest.mark.parametrize("work", MIDST)
def test_a_node_that_is_removed_costs_nothing_but_time(on_ray: OnRay, work: str) -> None:
    out_root, node = f"removed-{work}", on_ray.nodes.add_node(num_cpus=1)
    removal = threading.Thread(target=remove_at, args=(on_ray, node, on_ray.midst(work, out_root)))
    removal.start()
    assert on_ray.run(out_root) == 0
    removal.join()
    assert on_ray.content(out_root) == on_ray.expected


def remove_at(on_ray: OnRay, node: Any, moment: Callable[[], bool]) -> None:
    wait_until(moment, 300)
    on_ray.nodes.remove_node(node, allow_graceful=False)


def content_of(workspace: TinyWorkspace, out_root: str) -> dict[str, tuple[str, ...]]:
    """Of all assets but the report, which names versions."""
    found = workspace.current(out_root)
    return {asset: content(version) for asset, version in found.items() if asset != REPORT}


def wait_until(moment: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not moment():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _processes(node: Any, name: str) -> list[int]:
    infos = node.all_processes.get(name, [])
    return [info.process.pid for info in infos if psutil.pid_exists(info.process.pid)]
