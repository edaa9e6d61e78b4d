"""Many strings in one piece of memory."""

import numpy as np
import polars as pl


class Strings:
    """Strings by their row, in one piece of memory: a tenth of what as many Python strings take."""

    def __init__(self, values: pl.Series) -> None:
        self._bytes = (values.str.join("").item() or "").encode()
        ends = values.str.len_bytes().cum_sum().to_numpy()
        # A view gives Python's own numbers, several times faster than numpy its.
        self._bounds = np.append(np.int64(0), ends.astype(np.int64)).data

    def __getitem__(self, row: int) -> str:
        start, end = self._bounds[row], self._bounds[row + 1]
        return self._bytes[start:end].decode()
