"""Persona scores on a GPU: the same as the compiled loop's, by torch.

Vectors are put there once, as fp16, and stay for all lists of a ranker. Lists travel as numbers; rows are gathered
and multiplied there, in fp32, and what comes back are the scores of all lists of a call.

From run to run they have the same bits, on one kind of device with one version of torch: every sum is taken in an
order that its shape decides, and nothing is added by atomics. Between devices, and against the compiled loop, a score
may differ in its last bits (less than 1e-6).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag, pad

from personarank_dagster.core.errors import ConfigError
from personarank_dagster.core.profiles import IntArray, Windows
from personarank_dagster.encoding.attention import to_device
from personarank_dagster.ranking.ranker import Lists, PersonaScores, Ranker, Scorer, VectorTable

# fp32 values of one gathered block: 256 MB.
BLOCK_VALUES = 1 << 26
# fp16 values that are sent at once: 64 MB.
SENT_VALUES = 1 << 25


def score_on_device(device: str) -> Scorer:
    """A scorer for `Ranker` that computes in fp32 on this device, and keeps the vectors of the ranker there."""
    tables = _Tables(torch.device(device))

    def score(ranker: Ranker, lists: Lists, num_reasons: int) -> PersonaScores:
        if not len(lists):
            return PersonaScores.empty(0, num_reasons)
        with torch.inference_mode():
            space = _Space(
                tables.of(ranker.interactions), tables.of(ranker.personas), _sent(ranker.weights, tables.device)
            )
            bounds = _blocks(ranker, lists, num_reasons)
            blocks = [_score_block(space, lists.part(begin, end), num_reasons) for begin, end in bounds]
            return PersonaScores(*(torch.cat(column).cpu().numpy() for column in zip(*blocks, strict=True)))

    return score


@dataclass(frozen=True)
class _Vectors:
    """The vectors of a table on the device, and which of them each row of its index has."""

    values: Tensor
    vector_rows: Tensor

    def at(self, rows: Tensor) -> Tensor:
        """fp32 vectors (rows, dimension) of some rows of the index."""
        return self.values[self.vector_rows[rows]].float()


@dataclass(frozen=True)
class _Space:
    """What lists are scored with: both tables and the weight of each age."""

    interactions: _Vectors
    personas: _Vectors
    weights: Tensor

    @property
    def device(self) -> torch.device:
        return self.weights.device


class _Tables:
    """Tables that were put on the device. Raises ConfigError where its memory is too small for one."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        # With the tables themselves: an address says which it is as long as it is held.
        self._placed: dict[int, tuple[VectorTable, _Vectors]] = {}

    def of(self, table: VectorTable) -> _Vectors:
        """The vectors of the table; they travel when they are asked for first."""
        if id(table) not in self._placed:
            self._placed[id(table)] = table, self._place(table)
        return self._placed[id(table)][1]

    def _place(self, table: VectorTable) -> _Vectors:
        rows, dimension = table.vectors.shape
        try:
            values = torch.empty((rows, dimension), dtype=torch.float16, device=self.device)
        except torch.OutOfMemoryError as error:
            raise ConfigError(
                f"gpu.device {self.device}: the vectors of a cache must fit into its memory, got "
                f"{rows * dimension * 2 / 1e9:.1f} GB; set gpu.device to cpu"
            ) from error
        step = max(1, SENT_VALUES // max(1, dimension))
        for begin in range(0, rows, step):
            part = table.bits[begin : begin + step].view(np.float16)
            values[begin : begin + step] = _sent(part, self.device)
        return _Vectors(values, _sent(table.vector_rows.astype(np.int64), self.device))


@dataclass(frozen=True)
class _Ragged:
    """Windows of rows that stand one after another: the window of each row, and its place in it from 0.

    `bounds` (windows + 1,) say where windows begin among the rows, and where the last one ends.
    """

    windows: Tensor
    places: Tensor
    bounds: Tensor

    @classmethod
    def of(cls, counts: IntArray, device: torch.device) -> "_Ragged":
        """Windows of so many rows. The sums are the host's, so that nothing waits for the device."""
        ends = np.append(0, np.cumsum(counts))
        bounds = _sent(ends, device)
        windows = torch.repeat_interleave(_sent(counts, device), output_size=int(ends[-1]))
        return cls(windows, torch.arange(len(windows), device=device) - bounds[windows], bounds)


def _sent(values: npt.NDArray[np.generic], device: torch.device) -> Tensor:
    """A copy on the device: torch takes no array that only may be read, as those of tables and mapped files are."""
    return to_device(np.array(values), device)


def _blocks(ranker: Ranker, lists: Lists, num_reasons: int) -> Iterator[tuple[int, int]]:
    """Runs of lists whose rows fit into one block; at least one list each."""
    own = lists.profiles.ends - lists.profiles.starts
    of_reasons = np.repeat(own, np.diff(lists.offsets)) if num_reasons else 0
    of_pairs = lists.personas.ends - lists.personas.starts + of_reasons
    rows = np.append(0, np.cumsum(of_pairs))[lists.offsets] + np.append(0, np.cumsum(own))
    room = max(1, BLOCK_VALUES // max(1, ranker.personas.vectors.shape[1]))
    begin = 0
    while begin < len(lists):
        end = max(begin + 1, int(np.searchsorted(rows, rows[begin] + room, side="right")) - 1)
        yield begin, end
        begin = end


def _score_block(space: _Space, lists: Lists, num_reasons: int) -> tuple[Tensor, ...]:
    """The columns of `PersonaScores` for lists that fit into memory at once."""
    list_of_pair = np.repeat(np.arange(len(lists)), np.diff(lists.offsets))
    own = lists.profiles.ends - lists.profiles.starts
    counts = np.where(own[list_of_pair] > 0, lists.personas.ends - lists.personas.starts, 0)
    weighted, profiles = _profiles(space, lists.profiles)
    of_pair = profiles[_sent(list_of_pair, space.device)]
    scores, best = _best(space.personas, of_pair, lists.personas.starts, counts)
    speaking = np.where(counts > 0, own[list_of_pair], 0)
    newest = Windows((np.cumsum(own) - 1)[list_of_pair], (lists.profiles.ends - 1)[list_of_pair])
    personas = space.personas.at(best.clamp(min=0)) if num_reasons else of_pair
    return scores, best, *_reasons(weighted, personas, speaking, newest, num_reasons)


def _profiles(space: _Space, windows: Windows) -> tuple[Tensor, Tensor]:
    """What each interaction adds to its profile (rows, dimension), and the unit profiles (lists, dimension)."""
    counts = windows.ends - windows.starts
    own = _Ragged.of(counts, space.device)
    rows = _sent(windows.starts, space.device)[own.windows] + own.places
    ages = _sent(windows.ends, space.device)[own.windows] - 1 - rows
    weighted = space.interactions.at(rows) * space.weights[ages][:, None]
    sums = _sums(weighted, counts)
    lengths = sums.norm(dim=1, keepdim=True)
    lengths = torch.where(lengths > 0, lengths, 1)
    return weighted / lengths[own.windows], sums / lengths


def _sums(rows: Tensor, counts: IntArray) -> Tensor:
    """Sum (lists, dimension) of the rows of each list, `counts[i]` of them one after the other; 0 for none.

    In a bag of embeddings one thread adds a number from the first row to the last. `index_add` would add in the order
    in which threads come, which is another one in each run.
    """
    starts = _sent(np.cumsum(counts) - counts, rows.device)
    return embedding_bag(torch.arange(len(rows), device=rows.device), rows, starts, mode="sum")


def _best(vectors: _Vectors, profiles: Tensor, starts: IntArray, counts: IntArray) -> tuple[Tensor, Tensor]:
    """The highest cosine of each pair and the first row that reaches it; NaN and -1 without a row."""
    own = _Ragged.of(counts, profiles.device)
    rows = _sent(starts, profiles.device)[own.windows] + own.places
    cosines = (profiles[own.windows] * vectors.at(rows)).sum(dim=1)
    scores = _extreme(cosines, "max", own, -torch.inf)
    # In fp64 a number of a row is exact.
    hits = torch.where(cosines == scores[own.windows], rows.double(), torch.inf)
    first = _extreme(hits, "min", own, torch.inf)
    found = first.isfinite()
    return torch.where(found, scores, torch.nan), torch.where(found, first, -1).long()


def _extreme(values: Tensor, kind: str, own: _Ragged, of_none: float) -> Tensor:
    return torch.segment_reduce(values, kind, offsets=own.bounds, initial=of_none, unsafe=True)


def _reasons(
    weighted: Tensor, personas: Tensor, counts: IntArray, newest: Windows, num_reasons: int
) -> tuple[Tensor, Tensor]:
    """The interactions of each pair's profile that add most, newest first among equals: rows and amounts.

    `newest` says of each pair where its newest interaction stands, in `weighted` and in the index.
    """
    device, longest = weighted.device, int(counts.max(initial=0))
    if not num_reasons or not longest:
        none = torch.full((len(counts), num_reasons), -1, device=device)
        return none, torch.zeros(none.shape, device=device)
    own = _Ragged.of(counts, device)
    rows = _sent(newest.starts, device)[own.windows] - own.places
    amounts = (weighted[rows] * personas[own.windows]).sum(dim=1)
    ages = torch.arange(longest, device=device)
    cells = (own.bounds[:-1, None] + ages).clamp(max=len(amounts) - 1)
    by_age = torch.where(ages < _sent(counts, device)[:, None], amounts[cells], 0)
    highest, order = (part[:, :num_reasons] for part in by_age.sort(dim=1, descending=True, stable=True))
    reasons = torch.where(highest > 0, _sent(newest.ends, device)[:, None] - order, -1)
    missing = (0, num_reasons - highest.shape[1])
    return pad(reasons, missing, value=-1), pad(highest.clamp(min=0), missing)
