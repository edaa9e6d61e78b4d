"""Training pairs as arrays, and the batches that the trainer draws from them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from personarank_dagster.core.histories import TrainingPairs
from personarank_dagster.core.profiles import FloatArray, IntArray, Windows, window_weights
from personarank_dagster.encoding.training.neighbours import Neighbourhood


@dataclass(frozen=True)
class TrainingData:
    """Everything that training reads, texts apart.

    Liked interaction i has the text `text_rows[i]`; pair j is profile window `windows[j]` of user `users[j]` with
    the persona `targets[j]`, -1 where none was selected, of item `target_items[j]`; persona p belongs to item
    `persona_items[p]`. `neighbours[j]` (pairs, count) are items
    that a retriever would offer to the user of pair j, nearest first, -1 where there are no more; see `Neighbourhood`
    for `nearness` (pairs, count + 1).
    """

    text_rows: IntArray
    windows: Windows
    targets: IntArray
    target_items: IntArray
    users: IntArray
    persona_items: IntArray
    neighbours: IntArray
    nearness: FloatArray

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, pairs: IntArray) -> "TrainingData":
        """The same texts and personas with these pairs only."""
        return replace(
            self,
            windows=self.windows[pairs],
            targets=self.targets[pairs],
            target_items=self.target_items[pairs],
            users=self.users[pairs],
            neighbours=self.neighbours[pairs],
            nearness=self.nearness[pairs],
        )


def training_data(
    pairs: TrainingPairs, text_rows: IntArray, personas: pl.DataFrame, near: Neighbourhood
) -> TrainingData:
    """Number the users, personas and items of the pairs; `near` as `neighbours` gives it."""
    numbered = personas.select("unique_persona_id", "item_id", item=pl.Series(_codes(personas["item_id"])))
    persona_row = numbered.with_row_index("target")
    by_persona = pairs.frame.join(persona_row, on="unique_persona_id", how="left", maintain_order="left")
    item = numbered.select("item_id", of_item="item").unique("item_id")
    joined = by_persona.join(item, left_on="target_item_id", right_on="item_id", how="left", maintain_order="left")
    return TrainingData(
        text_rows=text_rows,
        windows=pairs.windows,
        targets=joined["target"].cast(pl.Int64).fill_null(-1).to_numpy(),
        target_items=joined["item"].fill_null(joined["of_item"]).to_numpy(),
        users=_codes(pairs.frame["user_id"]),
        persona_items=_codes(personas["item_id"]),
        neighbours=near.items,
        nearness=near.nearness,
    )


def split_by_user(data: TrainingData, share: float, seed: int) -> tuple[TrainingData, TrainingData | None]:
    """The pairs to train on, and those of a share of the users to validate on; None where that is no user."""
    users = np.unique(data.users)
    held_out = np.random.default_rng(seed).permutation(users)[: int(share * len(users))]
    validation = np.isin(data.users, held_out)
    if not validation.any() or validation.all():
        return data, None
    return data.take(np.flatnonzero(~validation)), data.take(np.flatnonzero(validation))


class PairNumbers(Dataset[int]):
    """The numbers 0 … n-1: the sampler shuffles pairs, the collator turns them into tensors."""

    def __init__(self, num_pairs: int) -> None:
        self.num_pairs = num_pairs

    def __len__(self) -> int:
        return self.num_pairs

    def __getitem__(self, number: int) -> int:
        return number


class PairBatches(Sampler[list[int]]):
    """Batches of an epoch, shuffled by seed and epoch alone, so that every rank and every continuation agree.

    With `by_user` the users are shuffled and each brings all pairs, whose profiles share most of their texts.
    """

    def __init__(self, users: IntArray, batch_size: int, *, seed: int, by_user: bool) -> None:
        self.users, self.batch_size, self.seed, self.by_user = users, batch_size, seed, by_user
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration gives."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.users) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        order = rng.permutation(len(self.users))
        if self.by_user:
            places = rng.permutation(int(self.users.max()) + 1)
            order = order[np.argsort(places[self.users[order]], kind="stable")]
        for begin in range(0, len(order), self.batch_size):
            yield order[begin : begin + self.batch_size].tolist()


@dataclass(frozen=True)
class PairCollator:
    """Makes a batch of pairs; an interaction text that several windows share stands in it once."""

    pairs: TrainingData
    gamma: float

    def __call__(self, numbers: Sequence[int]) -> dict[str, Tensor]:
        """Tensors of a batch.

        texts (texts,)                  distinct rows of interaction texts
        text_weights (batch, texts)     decay weight of each text in the profile of each pair
        targets, target_items, users (batch,)
        neighbours (batch, count)
        """
        chosen = np.asarray(numbers, dtype=np.int64)
        windows = self.pairs.windows[chosen]
        rows, pair_of_row = windows.flatten()
        texts, text_of_row = np.unique(self.pairs.text_rows[rows], return_inverse=True)
        text_weights = np.zeros((len(chosen), len(texts)), dtype=np.float32)
        np.add.at(text_weights, (pair_of_row, text_of_row), window_weights(windows, self.gamma))
        arrays: dict[str, npt.NDArray[np.generic]] = {
            "texts": texts,
            "text_weights": text_weights,
            "targets": self.pairs.targets[chosen],
            "target_items": self.pairs.target_items[chosen],
            "users": self.pairs.users[chosen],
            "neighbours": self.pairs.neighbours[chosen],
        }
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _codes(names: pl.Series) -> IntArray:
    return names.rank("dense").to_numpy().astype(np.int64) - 1
