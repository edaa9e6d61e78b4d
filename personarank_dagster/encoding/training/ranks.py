"""Ranks of a distributed training: who encodes which texts, and all vectors on every rank."""

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import pad

DecisionT = TypeVar("DecisionT")


def rank_and_world() -> tuple[int, int]:
    """Number of this process and of all; (0, 1) where there is one."""
    if dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def end_rank(code: int) -> NoReturn:
    """End this process without taking its process group apart, which can hang for ever.

    torch 2.13 joins gloo's thread while it holds Python's lock, which that thread may be waiting for to let go of its
    last collective. Nothing of a rank is needed after its result is written, and the system frees the rest.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def from_first(decide: Callable[[], DecisionT]) -> DecisionT:
    """What the first rank decides, on every rank: their clocks differ, and a checkpoint is the work of all."""
    rank, world = rank_and_world()
    decisions = [decide() if rank == 0 else None]
    if world > 1:
        dist.broadcast_object_list(decisions, src=0)
    return cast(DecisionT, decisions[0])


def smallest(number: int, device: torch.device) -> int:
    """The smallest of the numbers of all ranks, on every rank; it travels through the device that computes."""
    if rank_and_world()[1] == 1:
        return number
    found = torch.tensor(number, device=device)
    dist.all_reduce(found, dist.ReduceOp.MIN)
    return int(found)


def own_chunks(chunks: Sequence[list[int]]) -> tuple[list[list[int]], list[list[list[int]]]]:
    """Chunks of this rank, and those of every rank: chunk i belongs to rank i modulo their number."""
    rank, world = rank_and_world()
    by_rank = [list(chunks[other::world]) for other in range(world)]
    return by_rank[rank], by_rank


def gather_rows(own: Tensor, sizes: Sequence[int]) -> Tensor:
    """Rows (all, dim) of all ranks, one rank after the other; `sizes[r]` is the number of rows of rank r.

    With gradient: every rank computes the same loss of the same whole batch, so what a rank needs of the gradient
    is its own slice; times the number of ranks, because gradients of weights are averaged over them.
    """
    if len(sizes) == 1:
        return own
    rows: Tensor = _Gather.apply(own, list(sizes))  # type: ignore[no-untyped-call]
    return rows


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor, sizes: list[int]) -> Tensor:
        ctx.sizes = sizes
        padded = pad(own, (0, 0, 0, max(sizes) - len(own))).contiguous()
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        rank, world = rank_and_world()
        begin = sum(ctx.sizes[:rank])
        return gradients[0][begin : begin + ctx.sizes[rank]] * world, None
