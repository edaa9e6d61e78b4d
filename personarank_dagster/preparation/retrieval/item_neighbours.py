"""Items near to those that a user liked, by who else liked them."""

from collections.abc import Iterator

import numpy as np
from scipy import sparse

# Items or users at a time: so many rows of the matrix of all pairs are in memory.
BLOCK = 1024


def neighbour_scores(liked: sparse.csr_array, neighbours: int) -> sparse.csr_array:
    """Scores of (user, item): sums of the cosines to the items that the user liked, each with its nearest few.

    The cosine of two items is that of the sets of users who liked them. Ties among neighbours go by the column.
    """
    return (liked @ _nearest(liked, neighbours)).tocsr()


def _nearest(liked: sparse.csr_array, most: int) -> sparse.csr_array:
    """Cosines of each item, a row, to the items nearest to it."""
    degrees = np.asarray(liked.sum(axis=0), dtype=np.float64).ravel()
    scale = sparse.diags_array(1 / np.sqrt(np.maximum(degrees, 1)))
    unit = (liked @ scale).tocsc()
    blocks = [_largest(unit, start, most) for start in range(0, unit.shape[1], BLOCK)]
    return sparse.csr_array(sparse.vstack(blocks))


def _largest(unit: sparse.csc_array, start: int, most: int) -> sparse.csr_array:
    """So many of the largest cosines of the items from `start` on, without those to themselves."""
    block = unit[:, start : start + BLOCK]
    cosines = sparse.coo_array(block.T @ unit)
    rows, columns, values = cosines.row, cosines.col, cosines.data
    order = np.lexsort((columns, -values, rows))
    order = order[columns[order] != rows[order] + start]
    place = _places(rows[order])
    kept = order[place < most]
    return sparse.csr_array((values[kept], (rows[kept], columns[kept])), shape=cosines.shape)


def _places(sorted_rows: np.ndarray) -> np.ndarray:
    """Place of each entry within its row."""
    starts = np.searchsorted(sorted_rows, sorted_rows)
    places: np.ndarray = np.arange(len(sorted_rows)) - starts
    return places


def blocks_of(num_rows: int) -> Iterator[slice]:
    """All rows, so many at a time."""
    return (slice(start, min(start + BLOCK, num_rows)) for start in range(0, num_rows, BLOCK))
