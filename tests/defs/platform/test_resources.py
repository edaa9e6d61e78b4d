import re
import time

import dagster as dg
import msgspec
import pydantic
import pytest

from personarank_dagster.configuration.settings import TrainConfig
from personarank_dagster.core.errors import ConfigError
from personarank_dagster.defs.platform.compute import ComputeResource
from personarank_dagster.defs.platform.resources import GpuResource, ProgressResource
from personarank_dagster.defs.training.run import TrainingMeans

HERE = ComputeResource(engine="local", actors=0, cpus_per_actor=1.0, gpus_per_actor=0.0)


def gpu(**settings: object) -> GpuResource:
    return GpuResource(**{"device": "auto", "devices": 1, "precision": "auto", "memory_share": 1.0} | settings)


def has_cuda(monkeypatch: pytest.MonkeyPatch, *, devices: int) -> list[tuple[float, int]]:
    """Let torch say that there are GPUs; returns the memory shares that it is told."""
    shares: list[tuple[float, int]] = []
    monkeypatch.setattr("torch.cuda.is_available", lambda: devices > 0)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: devices)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda: True)
    monkeypatch.setattr("torch.cuda.set_per_process_memory_fraction", lambda *share: shares.append(share))
    return shares


def test_auto_takes_the_cpu_where_there_is_nothing_else_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    has_cuda(monkeypatch, devices=0)
    description = gpu(precision="fp32").description()
    assert description == {
        "device": "cpu",
        "device_reason": "auto: there is cpu",
        "precision": "fp32",
        "precision_reason": "as configured",
        "devices": 1,
    }


def test_auto_takes_a_gpu_and_no_more_than_its_share_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = has_cuda(monkeypatch, devices=4)
    resource = gpu(devices=2, memory_share=0.5)
    assert resource.torch_device() == "cuda"
    assert shares == [(0.5, 0), (0.5, 1)]
    description = resource.description()
    assert (description["device_reason"], description["memory_share"]) == ("auto: there is cuda and cpu", 0.5)
    assert description["precision_reason"] == "auto: cuda computes in it"


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    has_cuda(monkeypatch, devices=0)
    with pytest.raises(
        ConfigError, match=f"gpu.device {device}: this machine has none; set gpu.device to auto or cpu"
    ):
        gpu(device=device).torch_device()


def test_more_devices_than_there_are_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    has_cuda(monkeypatch, devices=2)
    with pytest.raises(ConfigError, match=r"gpu.devices must be at most 2, as many as cuda has here, got 3"):
        gpu(devices=3).torch_device()
    with pytest.raises(ConfigError, match=r"at most 1, as many as cpu has"):
        gpu(device="cpu", devices=2).num_devices()


def test_num_gpus_is_bounded_by_what_the_resource_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    has_cuda(monkeypatch, devices=4)
    config = TrainConfig(st_path="m", tune="full", num_gpus=3)
    assert gpu(devices=0).torch_devices(3) == ["cuda:0", "cuda:1", "cuda:2"]
    assert TrainingMeans.of(gpu(devices=0), HERE, config).processes == 3
    with pytest.raises(ConfigError, match=r"num_gpus must be at most 2, got 3: gpu\.devices allows no more"):
        TrainingMeans.of(gpu(devices=2), HERE, config)
    with pytest.raises(ConfigError, match=r"num_gpus must be at most 4, got 5: cuda has no more here"):
        gpu(devices=0).torch_devices(5)
    assert TrainingMeans.of(gpu(devices=1), HERE, msgspec.structs.replace(config, tune="head")).processes == 1


def test_training_has_the_precision_of_the_resource(monkeypatch: pytest.MonkeyPatch) -> None:
    has_cuda(monkeypatch, devices=1)
    config = TrainConfig(st_path="m", tune="full")
    assert gpu().training_precision(config) == "bf16"
    assert gpu(precision="fp32").training_precision(config) == "fp32"
    assert gpu().training_precision(msgspec.structs.replace(config, amp=False)) == "fp32"
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda: False)
    assert gpu().training_precision(config) == "fp16"
    assert gpu(precision="bf16").training_precision(config) == "bf16"


@pytest.mark.parametrize("settings", [{"devices": -1}, {"devices": 65}, {"memory_share": 0.0}, {"memory_share": 1.1}])
def test_numbers_out_of_bounds_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises((pydantic.ValidationError, dg.DagsterInvalidConfigError)):
        gpu(**settings)


@pytest.mark.parametrize(("seconds", "expected"), [(0, [1, 2, 3, 4]), (60, [])])
def test_progress_is_observed_on_the_asset_while_it_runs_and_not_too_often(
    monkeypatch: pytest.MonkeyPatch, seconds: int, expected: list[int]
) -> None:
    monkeypatch.setattr("personarank_dagster.defs.platform.resources.LOG_SECONDS", seconds)
    monkeypatch.setattr("personarank_dagster.defs.platform.resources.OBSERVATION_SECONDS", seconds)

    @dg.asset
    def slow(context: dg.AssetExecutionContext, progress: ProgressResource) -> None:
        with progress.track(context, "encoding", 4) as advance:
            for _ in range(4):
                advance(1)

    observed = observations(dg.materialize([slow], resources={"progress": ProgressResource(terminal=False)}))
    assert [one.metadata["done"].value for one in observed] == expected
    assert all(one.metadata.keys() == {"task", "done", "of", "per_second", "seconds_left"} for one in observed)


def test_the_bar_of_a_terminal_shows_how_many_a_second(capfd: pytest.CaptureFixture[str]) -> None:
    with ProgressResource(terminal=True).track(dg.build_asset_context(), "encoding", 4) as advance:
        for _ in range(4):
            advance(1)
            time.sleep(0.01)
    assert re.search(r"encoding .* 4/4 [0-9.]+/s", capfd.readouterr().err)


def observations(result: dg.ExecuteInProcessResult) -> list[dg.AssetObservation]:
    events = [event for event in result.all_events if event.event_type == dg.DagsterEventType.ASSET_OBSERVATION]
    return [event.asset_observation_data.asset_observation for event in events]
