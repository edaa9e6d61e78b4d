"""Keys of texts: equal texts have equal keys, different ones different keys."""

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from personarank_dagster.core.profiles import IntArray

# (texts, 2): the two halves of a 16-byte hash.
KeyArray = npt.NDArray[np.uint64]

KEY_BYTES = 16
SLICE_TEXTS = 1 << 16


def text_keys(texts: pl.Series) -> KeyArray:
    """Keys (texts, 2) of texts, in order."""
    hashes = b"".join(_hashes(part) for part in _slices(texts))
    return np.frombuffer(hashes, dtype="<u8").reshape(-1, 2).astype(np.uint64, copy=False)


def distinct_rows(keys: KeyArray) -> tuple[IntArray, IntArray]:
    """Rows at which a key comes for the first time, in order; and for each row, the place of its key among those."""
    table = pl.DataFrame({"high": keys[:, 0], "low": keys[:, 1]}).with_row_index("row")
    first = table.select(pl.col("row").first().over("high", "low"))["row"].to_numpy().astype(np.int64)
    is_first = first == np.arange(len(keys))
    return np.flatnonzero(is_first), (np.cumsum(is_first) - 1)[first]


@dataclass(frozen=True)
class OrderedKeys:
    """Keys that are looked up in many tables: sorted once, so that a table costs what the smaller of both has."""

    # (2, keys), sorted, as a table; the first of each equal ones; and the row of each before that.
    table: KeyArray
    firsts: IntArray
    rows: IntArray

    @classmethod
    def of(cls, keys: KeyArray) -> "OrderedKeys":
        """Sort keys (keys, 2)."""
        rows = np.lexsort((keys[:, 1], keys[:, 0]))
        ordered = np.ascontiguousarray(keys[rows].T)
        is_first = np.append(True, (ordered[:, 1:] != ordered[:, :-1]).any(axis=0))[: len(keys)]
        return cls(ordered, np.maximum.accumulate(np.where(is_first, np.arange(len(keys)), 0)), rows)

    def found_in(self, table: KeyArray) -> tuple[IntArray, IntArray]:
        """Columns of a table as that of `rows_of_keys`, and the first of the sorted keys that each of them is."""
        if table.shape[1] < len(self.rows):
            at = rows_of_keys(self.table, table[:2].T)
            return np.flatnonzero(at >= 0), at[at >= 0]
        columns = rows_of_keys(table, self.table.T)
        return columns[columns >= 0], np.flatnonzero(columns >= 0)

    def in_their_order(self, values: IntArray) -> IntArray:
        """What was found for the first of each equal sorted keys, for all keys as they came."""
        own = np.empty_like(values)
        own[self.rows] = values[self.firsts]
        return own


def rows_of_keys(table: KeyArray, keys: KeyArray) -> IntArray:
    """Column of each key (keys, 2) in a table, -1 where it is not there.

    The first two rows of the table are the halves of its keys; it is sorted by the first.
    """
    high, low = table[0], table[1]
    rows = np.searchsorted(high, keys[:, 0])
    found = np.full(len(keys), -1, dtype=np.int64)
    open_keys = np.arange(len(keys))
    while len(open_keys):
        open_keys = open_keys[rows[open_keys] < len(high)]
        at = rows[open_keys]
        same_half = high[at] == keys[open_keys, 0]
        open_keys, at = open_keys[same_half], at[same_half]
        same = low[at] == keys[open_keys, 1]
        found[open_keys[same]] = at[same]
        open_keys = open_keys[~same]
        rows[open_keys] += 1
    return found


def _slices(texts: pl.Series) -> list[pl.Series]:
    return [texts.slice(begin, SLICE_TEXTS) for begin in range(0, len(texts), SLICE_TEXTS)]


def _hashes(texts: pl.Series) -> bytes:
    return b"".join(hashlib.blake2b(text.encode(), digest_size=KEY_BYTES).digest() for text in texts)
