import numpy as np
import polars as pl
import pytest

from personarank_dagster.core.histories import TrainingPairs
from personarank_dagster.core.profiles import Windows
from personarank_dagster.encoding.training.neighbours import neighbours

# Users a to d; items w, x, y, z are numbered 0 to 3.
LIKED = pl.DataFrame(
    {"user_id": list("aabbbcccd"), "item_id": ["w", "x", "w", "x", "y", "w", "y", "z", "z"]},
)
ITEMS = pl.Series(["z", "y", "x", "w", "w"])
PAIRS = TrainingPairs(
    frame=pl.DataFrame({"user_id": ["a", "d"], "target_item_id": ["x", "w"], "unique_persona_id": ["x_1", "w_1"]}),
    windows=Windows(np.array([0, 8]), np.array([1, 9])),
    left_out={},
)


def test_neighbours_are_ordered_by_cooccurrence_without_what_the_user_knows_and_the_target() -> None:
    # w: y in 2 of 3 and 2 users, z in 1 of 3 and 2. z: w and y once; the second pair's target is w.
    assert neighbours(PAIRS, LIKED, ITEMS, count=3).items.tolist() == [[2, 3, -1], [2, -1, -1]]


def test_nearness_is_that_of_the_others_and_of_the_target_without_its_own_user() -> None:
    near = neighbours(PAIRS, LIKED, ITEMS, count=3).nearness
    # a has w, target x: b has both, of 3 users with w, and one is left with x. d has z, target w: c has both.
    assert near[0].tolist() == pytest.approx([2 / 6**0.5, 1 / 6**0.5, 0, 1 / 3**0.5])
    assert near[1, 3] == pytest.approx(0)


def test_only_so_many_are_given() -> None:
    assert neighbours(PAIRS, LIKED, ITEMS, count=1).items.tolist() == [[2], [2]]


def test_items_without_personas_are_no_neighbours() -> None:
    assert neighbours(PAIRS, LIKED, pl.Series(["w", "x", "z"]), count=2).items.tolist() == [[2, -1], [-1, -1]]
