"""Attention within texts that stand one after another in one matrix, by the way that suits the device.

Each way takes queries, keys and values of shape (tokens, heads, dimension of a head) and gives what they attend to,
of the same shape. They agree within rounding.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from personarank_dagster.core.profiles import IntArray

# Texts of one length that stand side by side: their rows of the matrix, their number, their length.
Run = tuple[slice, int, int]


@dataclass(frozen=True)
class Layout:
    """Texts of so many tokens each, one after another. What a way of attention needs is made once, when asked for."""

    lengths: IntArray
    device: torch.device

    @cached_property
    def runs(self) -> list[Run]:
        """Runs of equal lengths, in order."""
        found, row = [], 0
        for length, equal in groupby(self.lengths.tolist()):
            number = len(list(equal))
            found.append((slice(row, row + number * length), number, length))
            row += number * length
        return found

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest text."""
        return int(self.lengths.max())

    @cached_property
    def counts(self) -> Tensor:
        """The lengths, on the device; all that follows is made of them there, so that few numbers travel."""
        return to_device(self.lengths, self.device)

    @cached_property
    def bounds(self) -> Tensor:
        """Rows where the texts begin, and where the last one ends: (texts + 1,) in int32."""
        return nn.functional.pad(self.counts.cumsum(0), (1, 0)).int()

    @cached_property
    def texts(self) -> Tensor:
        """The text of each token."""
        # Its size must be said, or the device would be asked.
        texts = torch.arange(len(self.lengths), device=self.device)
        return texts.repeat_interleave(self.counts, output_size=int(self.lengths.sum()))

    @cached_property
    def positions(self) -> Tensor:
        """Position of each token within its text, from 0."""
        return torch.arange(len(self.texts), device=self.device) - self.bounds[self.texts]

    @cached_property
    def cells(self) -> Tensor:
        """Place of each token in a matrix (texts, longest) that is read row by row."""
        return self.texts * self.longest + self.positions

    @cached_property
    def mask(self) -> Tensor:
        """Which cells of a matrix (texts, longest) hold a token."""
        return torch.arange(self.longest, device=self.device) < self.counts[:, None]

    def padded(self, rows: Tensor) -> Tensor:
        """The rows (tokens, …) as (texts, longest, …), zeros where a text has ended."""
        cells = rows.new_zeros((len(self.lengths) * self.longest, *rows.shape[1:]))
        return cells.index_copy(0, self.cells, rows).view(len(self.lengths), self.longest, *rows.shape[1:])


Attend = Callable[[Tensor, Tensor, Tensor, Layout], Tensor]


def by_runs(query: Tensor, key: Tensor, value: Tensor, layout: Layout) -> Tensor:
    """One call for each run of equal lengths: a text's result depends on that text alone, to the last bit."""
    parts = []
    for rows, number, length in layout.runs:
        # (texts, heads, length, dimension of a head)
        q, k, v = (part[rows].view(number, length, *part.shape[1:]).transpose(1, 2) for part in (query, key, value))
        parts.append(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(0, 1))
    # Rows after the last text may fill the matrix up; nothing reads them.
    filling = len(value) - sum(map(len, parts))
    return torch.cat([*parts, value.new_zeros(filling, *value.shape[1:])])


def padded(query: Tensor, key: Tensor, value: Tensor, layout: Layout) -> Tensor:
    """One call for all texts, filled up to the longest."""
    q, k, v = (layout.padded(part).transpose(1, 2) for part in (query, key, value))
    attended = scaled_dot_product_attention(q, k, v, attn_mask=layout.mask[:, None, None, :])
    return attended.transpose(1, 2).flatten(0, 1)[layout.cells]


def variable_length(query: Tensor, key: Tensor, value: Tensor, layout: Layout) -> Tensor:
    """One call for all texts without padding, in half precision on a GPU."""
    from torch.nn.attention.varlen import varlen_attn

    bounds, longest = layout.bounds, layout.longest
    attended = varlen_attn(query, key, value, bounds, bounds, longest, longest)
    assert isinstance(attended, Tensor)
    return attended


def attention_for(device: torch.device, dtype: torch.dtype) -> Attend:
    """The way that is fastest there, of those that this version of torch has."""
    if device.type == "cpu":
        return by_runs
    return variable_length if dtype in (torch.bfloat16, torch.float16) and _has_variable_length() else padded


def to_device(values: npt.NDArray[np.generic], device: torch.device) -> Tensor:
    """The numbers on the device; nothing waits for them to arrive there."""
    tensor = torch.from_numpy(values)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _has_variable_length() -> bool:
    try:
        from torch.nn.attention import varlen
    except ImportError:
        return False
    return hasattr(varlen, "varlen_attn")
