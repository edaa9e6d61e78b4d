"""Sum, bias and layer norm as one kernel of a GPU, which reads and writes the rows once.

As kernels of their own the sum reads two matrices and writes one, and the norm reads and writes that again: an eighth
of the time of an encoder of 1,024 dimensions. Only where triton is, which comes with torch for CUDA.
"""

import logging
from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from personarank_dagster.encoding.sources import first_line

logger = logging.getLogger(__name__)


def add_norm(rows: Tensor, residual: Tensor, bias: Tensor, weight: Tensor, shift: Tensor, eps: float) -> Tensor:
    """Layer norm of `rows + bias + residual`, computed in fp32: (tokens, dimension), as the rows are."""
    normed = torch.empty_like(rows)
    width = rows.shape[1]
    block = triton.next_power_of_2(width)
    _add_norm[(len(rows),)](rows, residual, bias, weight, shift, normed, eps, WIDTH=width, BLOCK=block)
    return normed


@cache
def can_compile(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the kernel can be made here: triton needs a C compiler, which small images lack."""
    one = torch.zeros(1, 8, dtype=dtype, device=device)
    try:
        add_norm(one, one, one[0], one[0], one[0], 1e-6)
    except Exception as error:
        logger.warning("sums and norms are kernels of their own, a tenth slower: %s", first_line(error))
        return False
    return True


@triton.jit  # type: ignore[untyped-decorator]
def _add_norm(rows, residual, bias, weight, shift, normed, eps, WIDTH: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: N803
    """One row for each program."""
    columns = tl.arange(0, BLOCK)
    inside = columns < WIDTH
    cells = tl.program_id(0).to(tl.int64) * WIDTH + columns
    value = tl.load(rows + cells, inside, 0).to(tl.float32) + tl.load(residual + cells, inside, 0).to(tl.float32)
    value += tl.load(bias + columns, inside, 0).to(tl.float32)
    centred = tl.where(inside, value - tl.sum(value, 0) / WIDTH, 0)
    scaled = centred * tl.rsqrt(tl.sum(centred * centred, 0) / WIDTH + eps)
    result = scaled * tl.load(weight + columns, inside, 0).to(tl.float32)
    result += tl.load(shift + columns, inside, 0).to(tl.float32)
    tl.store(normed + cells, result.to(normed.dtype.element_ty), inside)
