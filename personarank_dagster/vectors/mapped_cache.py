"""A published cache for looking one user or item up: everything is memory-mapped, so that opening reads nothing.

Beside the vectors lie `rows.npy`, the vector row of each row of the index, and `groups.npy` (4, groups): both halves
of the key of each user (or item), sorted by the first, the first row of the index that is its own, and how many.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from personarank_dagster.core.profiles import FloatArray, decay_weights, unit_rows
from personarank_dagster.vectors.matrices import Float16Array, read_array
from personarank_dagster.vectors.text_keys import KeyArray, rows_of_keys, text_keys

VECTORS, ROWS, GROUPS = "vectors.npy", "rows.npy", "groups.npy"


@dataclass(frozen=True)
class MappedCache:
    """Vectors by user or item."""

    vectors: Float16Array
    rows: npt.NDArray[np.uint32]
    groups: KeyArray

    def rows_of(self, name: str) -> npt.NDArray[np.uint32]:
        """Vector rows of a user's interactions, oldest first, or of an item's personas; empty for an unknown one."""
        place = rows_of_keys(self.groups, text_keys(pl.Series([name])))[0]
        if place < 0:
            return self.rows[:0]
        first, count = (int(number) for number in self.groups[2:, place])
        return self.rows[first : first + count]

    def profile(self, user: str, *, k: int, gamma: float) -> FloatArray | None:
        """Unit profile of a user's last k liked interactions; None without any."""
        rows = self.rows_of(user)[-k:]
        if not len(rows):
            return None
        weights = decay_weights(np.arange(len(rows))[::-1], gamma)
        profile: FloatArray = unit_rows(weights[None, :] @ self.vectors[rows].astype(np.float32))[0]
        return profile


def open_cache(directory: Path) -> MappedCache:
    """Map the files of a cache. Raises StorageError if one is missing or damaged."""
    return MappedCache(*(read_array(directory / name) for name in (VECTORS, ROWS, GROUPS)))


def write_lookup(directory: Path, index: pl.DataFrame) -> None:
    """Write what `open_cache` needs beside the vectors; the index rows of a user, or of an item, stand together."""
    name = "user_id" if "user_id" in index.columns else "item_id"
    groups = index.lazy().with_row_index("row").group_by(name, maintain_order=True)
    found = groups.agg(first=pl.col("row").min(), count=pl.len()).collect()
    table = np.stack([*text_keys(found[name]).T, found["first"].to_numpy(), found["count"].to_numpy()]).astype(
        np.uint64
    )
    np.save(directory / GROUPS, table[:, np.argsort(table[0], kind="stable")], allow_pickle=False)
    np.save(directory / ROWS, index["vector_row"].to_numpy(), allow_pickle=False)
