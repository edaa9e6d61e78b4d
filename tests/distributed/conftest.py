import os
from collections.abc import Iterator
from typing import Any

import pytest

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"


@pytest.fixture(scope="session")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A cluster of two nodes on this machine, which this process has not joined."""
    pytest.importorskip("ray", reason="Ray is not installed (pip install 'personarank-dagster[ray]')")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERSONARANK_NODE_DIR", str(tmp_path_factory.mktemp("node")))
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        cluster.add_node(num_cpus=1)
    yield cluster
    cluster.shutdown()


@pytest.fixture(scope="module")
def address(nodes: Any) -> Iterator[str]:
    """The address of the cluster; this process leaves it in the end."""
    import ray

    yield nodes.address
    ray.shutdown()
