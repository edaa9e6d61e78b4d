from typing import Any

import dagster as dg
import pytest

from personarank_dagster.core.errors import ConfigError
from personarank_dagster.defs.platform.compute import ComputeResource
from personarank_dagster.defs.platform.resources import GpuResource, bounded
from personarank_dagster.distributed.cluster import Cluster

SETTINGS = {"engine": "auto", "actors": 0, "cpus_per_actor": 1.0, "gpus_per_actor": 0.0}


def compute(**settings: Any) -> ComputeResource:
    return ComputeResource(**SETTINGS | settings)


def test_the_environment_chooses_the_engine_where_nobody_else_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PERSONARANK_ENGINE", raising=False)
    assert compute().chosen() == "local"
    monkeypatch.setenv("PERSONARANK_ENGINE", "ray")
    assert (compute().chosen(), compute(engine="local").chosen()) == ("ray", "local")
    monkeypatch.setenv("PERSONARANK_ENGINE", "spark")
    with pytest.raises(ConfigError, match="PERSONARANK_ENGINE must be local or ray, got 'spark'"):
        compute().chosen()


def test_this_machine_is_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSONARANK_RAY_ADDRESS", "head:6379")
    assert compute(engine="local").cluster() is None
    assert compute(engine="ray", actors=3, gpus_per_actor=0.5).cluster() == Cluster("head:6379", 3, 1.0, 0.5)


def test_gpus_of_a_cluster_encode_in_bf16_unless_another_precision_is_asked_for() -> None:
    here = GpuResource(device="cpu", devices=0, precision="auto", memory_share=1.0)
    asked = GpuResource(device="cpu", devices=0, precision="fp32", memory_share=1.0)
    on_gpus = compute(engine="ray", gpus_per_actor=1)
    assert (on_gpus.encoding_precision(here), on_gpus.encoding_precision(asked)) == ("bf16", "fp32")
    assert compute(engine="ray").encoding_precision(here) == here.encoding_precision()


@pytest.mark.parametrize("settings", [{"actors": 4097}, {"cpus_per_actor": 0.0}, {"gpus_per_actor": 9}])
def test_numbers_out_of_bounds_are_refused_at_the_launch(settings: dict[str, float]) -> None:
    @dg.asset
    def some(compute: dg.ResourceParam[ComputeResource]) -> None: ...

    resources = {"compute": bounded(compute(), "compute")}
    with pytest.raises(dg.DagsterInvalidConfigError, match=f"compute.{next(iter(settings))} must be"):
        dg.materialize([some], resources=resources, run_config={"resources": {"compute": {"config": settings}}})


def test_no_address_can_be_given_in_the_configuration_of_a_run() -> None:
    fields = {"engine", "actors", "cpus_per_actor", "gpus_per_actor"}
    assert set(ComputeResource.model_fields) == fields
