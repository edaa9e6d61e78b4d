"""Persona scores on a GPU: the same as the compiled loop's, by torch.

From run to run they have the same bits, on one kind of device with one version of torch: every sum is taken in an
order that its shape decides, and nothing is added by atomics. Between devices, and against the compiled loop, a score
may differ in its last bits (less than 1e-6).
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch.nn.functional import embedding_bag

from personarank_dagster.core.profiles import IntArray, Windows
from personarank_dagster.ranking.ranker import Lists, PersonaScores, Ranker, Scorer, VectorTable

# fp32 values of one gathered block: 256 MB.
BLOCK_VALUES = 1 << 26


def score_on_device(device: str) -> Scorer:
    """A scorer for `Ranker` that computes in fp32 on this device; vectors travel there in blocks."""

    def score(ranker: Ranker, lists: Lists, num_reasons: int) -> PersonaScores:
        found = PersonaScores.empty(len(lists.personas), num_reasons)
        lengths = np.diff(lists.offsets)
        for begin, end in _blocks(ranker, lists):
            pairs = slice(int(lists.offsets[begin]), int(lists.offsets[end]))
            part, into = lists.part(begin, end), found.part(pairs)
            _score_block(ranker, part, np.repeat(np.arange(end - begin), lengths[begin:end]), into, device)
        return found

    return score


def _blocks(ranker: Ranker, lists: Lists) -> Iterator[tuple[int, int]]:
    """Runs of lists whose rows fit into one block; at least one list each."""
    own = lists.profiles.ends - lists.profiles.starts
    of_pairs = (lists.personas.ends - lists.personas.starts) + np.repeat(own, np.diff(lists.offsets))
    rows = np.append(0, np.cumsum(of_pairs))[lists.offsets] + np.append(0, np.cumsum(own))
    room = max(1, BLOCK_VALUES // max(1, ranker.personas.vectors.shape[1]))
    begin = 0
    while begin < len(lists):
        end = max(begin + 1, int(np.searchsorted(rows, rows[begin] + room, side="right")) - 1)
        yield begin, end
        begin = end


def _score_block(ranker: Ranker, lists: Lists, list_of_pair: np.ndarray, found: PersonaScores, device: str) -> None:
    """Fill in the scores of lists that fit into memory at once."""
    rows, list_of_row = lists.profiles.flatten()
    own = _gather(ranker.interactions, rows, device)
    ages = lists.profiles.ends[list_of_row] - 1 - rows
    weighted = own * torch.from_numpy(ranker.weights[ages]).to(device)[:, None]
    sums = _sums(weighted, lists.profiles.ends - lists.profiles.starts)
    lengths = sums.norm(dim=1, keepdim=True)
    profiles = sums / torch.where(lengths > 0, lengths, 1)
    has_profile = (lists.profiles.ends > lists.profiles.starts)[list_of_pair]
    scored = Windows(lists.personas.starts, np.where(has_profile, lists.personas.ends, lists.personas.starts))
    persona_rows, pair_of_row = scored.flatten()
    personas = _gather(ranker.personas, persona_rows, device)
    owners = torch.from_numpy(list_of_pair[pair_of_row]).to(device)
    cosines = (profiles[owners] * personas).sum(dim=1)
    _fill_best(cosines.cpu().numpy(), persona_rows, pair_of_row, found)
    if found.reasons.shape[1]:
        _fill_reasons(
            ranker, lists, list_of_pair, weighted / torch.where(lengths > 0, lengths, 1)[list_of_row], found
        )


def _sums(rows: torch.Tensor, counts: IntArray) -> torch.Tensor:
    """Sum (lists, dimension) of the rows of each list, `counts[i]` of them one after the other; 0 for none.

    In a bag of embeddings one thread adds a number from the first row to the last. `index_add` would add in the order
    in which threads come, which is another one in each run.
    """
    starts = torch.from_numpy(np.cumsum(counts) - counts).to(rows.device)
    return embedding_bag(torch.arange(len(rows), device=rows.device), rows, starts, mode="sum")


def _fill_best(cosines: np.ndarray, persona_rows: np.ndarray, pair_of_row: np.ndarray, found: PersonaScores) -> None:
    """The highest cosine of each pair and the first row that reaches it."""
    found.scores[:], found.best[:] = np.nan, -1
    if not len(cosines):
        return
    firsts = np.flatnonzero(np.diff(pair_of_row, prepend=-1))
    maxima = np.maximum.reduceat(cosines, firsts)
    found.scores[pair_of_row[firsts]] = maxima
    hits = np.flatnonzero(cosines == found.scores[pair_of_row])[::-1]
    # Written from the last to the first, so that the first of equals stays.
    found.best[pair_of_row[hits]] = persona_rows[hits]


def _fill_reasons(
    ranker: Ranker, lists: Lists, list_of_pair: np.ndarray, weighted: torch.Tensor, found: PersonaScores
) -> None:
    """The interactions of each pair's profile that add most, newest first among equals."""
    found.reasons[:], found.contributions[:] = -1, 0
    pairs = np.flatnonzero(found.best >= 0)
    if not len(pairs):
        return
    ends = np.cumsum(lists.profiles.ends - lists.profiles.starts)
    starts = ends - (lists.profiles.ends - lists.profiles.starts)
    own = Windows(starts[list_of_pair[pairs]], ends[list_of_pair[pairs]])
    rows, pair_of_row = own.flatten()
    personas = _gather(ranker.personas, found.best[pairs], str(weighted.device))
    amounts = (weighted[rows] * personas[pair_of_row]).sum(dim=1).cpu().numpy()
    ages = own.ends[pair_of_row] - 1 - rows
    by_age = np.zeros((len(pairs), int(ages.max()) + 1), np.float32)
    by_age[pair_of_row, ages] = amounts
    order = np.argsort(-by_age, axis=1, kind="stable")[:, : found.reasons.shape[1]]
    best = np.take_along_axis(by_age, order, axis=1)
    newest = lists.profiles.ends[list_of_pair[pairs]] - 1
    found.reasons[pairs, : order.shape[1]] = np.where(best > 0, newest[:, None] - order, -1)
    found.contributions[pairs, : order.shape[1]] = np.maximum(best, 0)


def _gather(table: VectorTable, rows: np.ndarray, device: str) -> torch.Tensor:
    """fp32 vectors (rows, dimension) of some rows of the index."""
    gathered = table.bits.view(np.float16)[table.vector_rows[rows]]
    return torch.from_numpy(gathered).to(device).float()
