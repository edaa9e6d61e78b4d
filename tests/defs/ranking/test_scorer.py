import pytest

from personarank_dagster.defs.platform.resources import GpuResource
from personarank_dagster.defs.ranking.assets import _scorer
from personarank_dagster.ranking.ranker import score_on_cores


@pytest.mark.parametrize("device", ["auto", "cpu", "mps"])
def test_the_compiled_loop_scores_unless_a_gpu_is_asked_for_by_name(
    monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert _scorer(GpuResource(device=device, devices=0, precision="auto", memory_share=1.0)) is score_on_cores


def test_a_gpu_that_is_asked_for_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr("torch.cuda.set_per_process_memory_fraction", lambda *share: None)
    gpu = GpuResource(device="cuda", devices=0, precision="auto", memory_share=1.0)
    assert _scorer(gpu) is not score_on_cores
