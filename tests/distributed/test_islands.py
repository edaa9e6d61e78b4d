"""A whole run on nodes that share nothing but the bucket: each sees an empty folder where the run works."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from personarank_dagster.defs.graph import all_assets  # noqa: F401 - declares the assets
from personarank_dagster.defs.platform.declarations import asset_names
from personarank_dagster.storage.bucket import bucket_path
from personarank_dagster.storage.versions import VersionStore
from tests.distributed.test_runs import content_of, wait_until
from tests.killable import TinyWorkspace, content
from tests.object_store import object_store

HIDDEN = (
    subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0
    if shutil.which("unshare")
    else False
)

pytestmark = pytest.mark.skipif(
    not (HIDDEN and os.environ.get("PERSONARANK_CLUSTER_RUNS")),
    reason="needs mount namespaces, and minutes: PERSONARANK_CLUSTER_RUNS=1, or make torture",
)


class Island:
    """A node of a cluster that does not see a folder, and keeps its copies in one of its own."""

    def __init__(self, address: str, hidden: Path, own: Path) -> None:
        self.hidden, self.own = hidden, own
        ray = Path(sys.executable).parent / "ray"
        start = f"mount -t tmpfs none {hidden} && exec {ray} start --address={address} --num-cpus=1 --block"
        environment = os.environ | {"PERSONARANK_NODE_DIR": str(own)}
        self.process = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", start], env=environment, stdout=subprocess.DEVNULL, cwd=own.parent
        )

    def sees(self) -> list[str]:
        """What it finds in the folder that is hidden from it."""
        return os.listdir(f"/proc/{self.process.pid}/root{self.hidden}")

    def copies(self) -> set[str]:
        """Assets of which it has fetched a version."""
        return {path.parents[1].name for path in self.own.glob("*/*/*/*/") if path.parents[2] != self.own / "scratch"}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> TinyWorkspace:
    return TinyWorkspace(tmp_path_factory.mktemp("workspace"))


@pytest.fixture
def islands(workspace: TinyWorkspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Island]]:
    pytest.importorskip("ray", reason="Ray is not installed (pip install 'personarank-dagster[ray]')")
    from ray.cluster_utils import Cluster

    with ExitStack() as stack:
        stack.enter_context(object_store())
        monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        head = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        stack.callback(head.shutdown)
        nodes = [Island(head.address, workspace.folder, tmp_path / name) for name in ("first", "second")]
        for node in nodes:
            stack.callback(node.process.wait)
            stack.callback(node.process.terminate)
        monkeypatch.setenv("PERSONARANK_RAY_ADDRESS", head.address)
        wait_until(lambda: alive(head) == 3)
        yield nodes


def alive(cluster: Any) -> int:
    return sum(node["Alive"] for node in cluster.global_state.node_table())


def test_nodes_that_share_only_a_bucket_make_the_bytes_of_one_machine(
    workspace: TinyWorkspace, islands: list[Island], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert workspace.call("run", "--out-root", "expected").code == 0
    monkeypatch.setenv("PERSONARANK_ENGINE", "ray")
    ended = workspace.call("run", "--out-root", "s3://bucket/run")
    assert ended.code == 0, ended.output
    assert [island.sees() for island in islands] == [[], []]
    assert set.union(*(island.copies() for island in islands)) >= {"interaction_cache", "persona_cache", "candidates"}
    assert in_the_bucket("s3://bucket/run/amazon", workspace.folder / "copies") == content_of(workspace, "expected")
    assert not bucket_path("s3://bucket/run/amazon/exchange").exists()


def in_the_bucket(address: str, copies: Path) -> dict[str, tuple[str, ...]]:
    stores = [
        VersionStore(bucket_path(address) / "versions", asset, "amazon", copies=copies)
        for asset in asset_names(partitioned=True)
    ]
    return {store.asset: content(version) for store in stores if (version := store.find_current())}
