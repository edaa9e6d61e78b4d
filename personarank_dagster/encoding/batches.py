"""Training pairs as arrays, and the batches that the trainer draws from them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from torch import Tensor
from torch.utils.data import Dataset

from personarank_dagster.core.histories import TrainingPairs
from personarank_dagster.core.profiles import IntArray, Windows, window_weights


@dataclass(frozen=True)
class TrainingData:
    """Everything that training reads, texts apart.

    Liked interaction i has the text `text_rows[i]`; pair j is profile window `windows[j]` of user `users[j]` with
    the persona `targets[j]`; persona p belongs to item `persona_items[p]`.
    """

    text_rows: IntArray
    windows: Windows
    targets: IntArray
    users: IntArray
    persona_items: IntArray


def training_data(pairs: TrainingPairs, text_rows: IntArray, personas: pl.DataFrame) -> TrainingData:
    """Number the users, personas and items of the pairs."""
    persona_row = personas.select("unique_persona_id").with_row_index("target")
    joined = pairs.frame.join(persona_row, on="unique_persona_id", how="left", maintain_order="left")
    return TrainingData(
        text_rows=text_rows,
        windows=pairs.windows,
        targets=joined["target"].to_numpy().astype(np.int64),
        users=_codes(pairs.frame["user_id"]),
        persona_items=_codes(personas["item_id"]),
    )


class PairNumbers(Dataset[int]):
    """The numbers 0 … n-1: the trainer shuffles pairs, the collator turns them into tensors."""

    def __init__(self, num_pairs: int) -> None:
        self.num_pairs = num_pairs

    def __len__(self) -> int:
        return self.num_pairs

    def __getitem__(self, number: int) -> int:
        return number


@dataclass(frozen=True)
class PairCollator:
    """Makes a batch of pairs; an interaction text that several windows share stands in it once."""

    pairs: TrainingData
    gamma: float

    def __call__(self, numbers: Sequence[int]) -> dict[str, Tensor]:
        """Tensors of a batch.

        texts (texts,)                  distinct rows of interaction texts
        text_weights (batch, texts)     decay weight of each text in the profile of each pair
        targets, users (batch,)
        """
        chosen = np.asarray(numbers, dtype=np.int64)
        windows = self.pairs.windows[chosen]
        rows, pair_of_row = windows.flatten()
        texts, text_of_row = np.unique(self.pairs.text_rows[rows], return_inverse=True)
        text_weights = np.zeros((len(chosen), len(texts)), dtype=np.float32)
        np.add.at(text_weights, (pair_of_row, text_of_row), window_weights(windows, self.gamma))
        arrays = {
            "texts": texts,
            "text_weights": text_weights,
            "targets": self.pairs.targets[chosen],
            "users": self.pairs.users[chosen],
        }
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _codes(names: pl.Series) -> IntArray:
    return names.rank("dense").to_numpy().astype(np.int64) - 1
