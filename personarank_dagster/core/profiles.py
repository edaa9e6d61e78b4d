"""Profiles: what the last liked interactions of a user say together."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Windows:
    """Slices of an array of interactions, oldest first: window i covers starts[i]:ends[i] and is never empty."""

    starts: IntArray
    ends: IntArray

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, selection: npt.NDArray[np.int64] | slice) -> "Windows":
        return Windows(self.starts[selection], self.ends[selection])

    def flatten(self) -> tuple[IntArray, IntArray]:
        """Rows of all windows one after the other, and the window that each row belongs to."""
        lengths = self.ends - self.starts
        window_of_row = np.repeat(np.arange(len(self)), lengths)
        first_flat = np.cumsum(lengths) - lengths
        rows = np.arange(lengths.sum()) - first_flat[window_of_row] + self.starts[window_of_row]
        return rows, window_of_row


def decay_weights(ages: npt.NDArray[np.integer], gamma: float) -> FloatArray:
    """Unnormalised weights gamma ** age; age 0 is the newest. A profile's unit length makes the scale irrelevant."""
    weights: FloatArray = np.power(gamma, ages.astype(np.float64)).astype(np.float32)
    return weights


def window_weights(windows: Windows, gamma: float) -> FloatArray:
    """Decay weight of every row of `windows.flatten()`: the last row of a window has age 0."""
    rows, window_of_row = windows.flatten()
    return decay_weights(windows.ends[window_of_row] - 1 - rows, gamma)


def unit_rows(matrix: FloatArray) -> FloatArray:
    """Rows divided by their length; a zero row stays zero."""
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    return (matrix / np.where(lengths > 0, lengths, 1)).astype(np.float32, copy=False)
