from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from personarank_dagster.encoding.training import activations
from personarank_dagster.encoding.training.activations import Activations

GB = 1 << 30


class Gpu:
    """What torch says of the memory of a GPU with 10 GB."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.allocated = 0
        for name, answer in {
            "get_device_properties": lambda device: SimpleNamespace(total_memory=10 * GB),
            "get_per_process_memory_fraction": lambda device: 1.0,
            "memory_allocated": lambda device: self.allocated,
            "memory_reserved": lambda device: self.allocated,
            "mem_get_info": lambda device: (10 * GB - self.allocated, 10 * GB),
        }.items():
            monkeypatch.setattr(f"torch.cuda.{name}", answer)
        monkeypatch.setattr(activations, "checkpoint", self._again)
        monkeypatch.setattr(activations, "USABLE", 0.5)
        self.computed_again = 0

    def chunk(self, size: int) -> Tensor:
        """A chunk whose activations take so much."""
        self.allocated += size
        return torch.zeros(1, requires_grad=True)

    def _again(self, compute: object, *, use_reentrant: bool) -> Tensor:
        self.computed_again += 1
        return torch.zeros(1, requires_grad=True)


def test_a_gpu_keeps_activations_until_its_memory_is_needed_for_a_chunk_that_keeps_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu = Gpu(monkeypatch)
    kept = Activations(torch.device("cuda"), [])
    kept.start_step()
    kept.run(lambda: gpu.chunk(1 << 20), 1_024)
    assert kept.bytes_a_token == 1_024
    gpu.allocated = 0
    kept.start_step()
    # 5 GB may be planned with: a chunk of 131,072 tokens takes an eighth of a GB, and stays free.
    assert kept.chunk_tokens == activations.MAX_CHUNK_TOKENS
    for _ in range(70):
        kept.run(lambda: gpu.chunk(GB >> 3), 131_072)
    assert gpu.computed_again == 70 - 39


def test_a_chunk_is_half_of_what_is_free_where_that_is_little(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Gpu(monkeypatch)
    kept = Activations(torch.device("cuda"), [])
    kept.run(lambda: gpu.chunk(1 << 20), 1)
    gpu.allocated = 9 * GB
    kept.start_step()
    assert kept.chunk_tokens == 0.5 * 1024 / 2


def test_the_first_step_leaves_room_for_gradients_and_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Gpu(monkeypatch)
    weight = torch.nn.Parameter(torch.empty(GB // 4, device="meta"))
    kept = Activations(torch.device("cuda"), [weight])
    kept.run(lambda: gpu.chunk(1 << 20), 1)
    gpu.allocated = 0
    kept.start_step()
    # 10 GB less 12 bytes for each of a quarter of a billion weights.
    assert kept.chunk_tokens == 0.5 * 7 * 1024 / 2


def test_a_cpu_keeps_none_and_a_pass_without_gradient_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Gpu(monkeypatch)
    none = Activations(torch.device("cpu"), [])
    none.start_step()
    none.run(lambda: gpu.chunk(1), 1)
    assert gpu.computed_again == 1
    with torch.no_grad():
        none.run(lambda: gpu.chunk(1), 1)
    assert (gpu.computed_again, gpu.allocated) == (1, 1)
