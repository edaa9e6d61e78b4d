"""Which chunks of a training step keep their activations, and which compute them again."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from personarank_dagster.encoding.training.ranks import smallest

# Tokens that are encoded at once, by kind of device: as many as its caches or its memory take well.
CHUNK_TOKENS = {"cpu": 1536, "cuda": 32_768, "mps": 16_384}
MAX_CHUNK_TOKENS = 131_072
# Memory of a GPU for each of them before it was measured: an encoder of 24 layers and 1024 dimensions keeps 1 MiB.
BYTES_A_TOKEN = 2 << 20
# Of a weight, for its gradient and two moments, which the first step does not have yet.
BYTES_A_WEIGHT = 12
# Of the memory that is free, what may be planned with; the rest is what a backward pass needs besides.
USABLE = 0.75


class Activations:
    """A GPU keeps as many as its memory holds, by what those of the first chunk took; another device keeps none.

    A chunk that keeps none computes them again when its gradient is due, with the same dropout, so that a batch of
    any size needs the memory of one chunk (gradient caching, arXiv 2101.06983).
    """

    def __init__(self, device: torch.device, weights: Iterable[nn.Parameter]) -> None:
        self.device, self.weights = device, list(weights)
        self.bytes_a_token = 0.0
        self.room = 0.0
        self.chunk_tokens = CHUNK_TOKENS[device.type]
        if device.type == "cuda":
            self.chunk_tokens = max(1, min(self.chunk_tokens, _allowed(device) // BYTES_A_TOKEN))

    def start_step(self) -> None:
        """See how much may be kept, now that nothing is: all but what one chunk needs that is computed again.

        Ranks share a batch by its chunks, so all take those of the rank with the least memory.
        """
        room = self._free() if self.bytes_a_token else 0.0
        if self.bytes_a_token:
            self.chunk_tokens = max(1, min(MAX_CHUNK_TOKENS, int(room / 2 / self.bytes_a_token)))
        self.chunk_tokens = smallest(self.chunk_tokens, self.device)
        self.room = room - self.chunk_tokens * self.bytes_a_token

    def run(self, compute: Callable[[], Tensor], tokens: int) -> Tensor:
        """The result of a chunk of so many tokens, with gradient where gradients are on."""
        if not torch.is_grad_enabled():
            return compute()
        if self.device.type == "cuda" and not self.bytes_a_token:
            return self._measured(compute, tokens)
        needed = tokens * self.bytes_a_token
        if self.device.type != "cuda" or needed > self.room:
            again: Tensor = checkpoint(compute, use_reentrant=False)
            return again
        self.room -= needed
        return compute()

    def _measured(self, compute: Callable[[], Tensor], tokens: int) -> Tensor:
        before = torch.cuda.memory_allocated(self.device)
        result = compute()
        self.bytes_a_token = max(1.0, (torch.cuda.memory_allocated(self.device) - before) / tokens)
        return result

    def _free(self) -> float:
        """Bytes that may be planned with."""
        missing = sum(BYTES_A_WEIGHT * one.numel() for one in self.weights if one.requires_grad and one.grad is None)
        allocated = torch.cuda.memory_allocated(self.device)
        cached = torch.cuda.memory_reserved(self.device) - allocated
        there = torch.cuda.mem_get_info(self.device)[0] + cached
        return USABLE * max(0, min(there, _allowed(self.device) - allocated) - missing)


def _allowed(device: torch.device) -> int:
    """Bytes of a GPU that this process may take."""
    memory = torch.cuda.get_device_properties(device).total_memory
    return int(memory * torch.cuda.get_per_process_memory_fraction(device))
