import numpy as np
import pytest

from personarank_dagster.core import profiles as module
from personarank_dagster.core.profiles import Windows, decay_weights, profiles, window_weights

RNG = np.random.default_rng(0)


def test_weights_decay_with_age() -> None:
    assert decay_weights(np.array([0, 1, 2]), 0.5).tolist() == [1.0, 0.5, 0.25]


def test_the_last_row_of_a_window_is_the_newest() -> None:
    windows = Windows(np.array([0, 4]), np.array([3, 5]))
    assert window_weights(windows, 0.5).tolist() == [0.25, 0.5, 1.0, 1.0]


def test_windows_flatten_to_rows_and_owners() -> None:
    rows, owners = Windows(np.array([5, 0]), np.array([7, 3])).flatten()
    assert rows.tolist() == [5, 6, 0, 1, 2]
    assert owners.tolist() == [0, 0, 1, 1, 1]


@pytest.mark.parametrize("block_rows", [1, 7, 16_384])
def test_profiles_equal_the_naive_mean_whatever_the_block(block_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK_ROWS", block_rows)
    vectors = RNG.normal(size=(40, 8)).astype(np.float16)
    rows = RNG.integers(0, 40, size=60)
    starts = RNG.integers(0, 50, size=30)
    windows = Windows(starts, starts + RNG.integers(1, 10, size=30))
    result = profiles(vectors, rows, windows, gamma=0.65)
    for i, (start, end) in enumerate(zip(windows.starts, windows.ends, strict=True)):
        weights = 0.65 ** np.arange(end - start)[::-1]
        mean = (weights[:, None] * vectors[rows[start:end]].astype(np.float64)).sum(axis=0)
        np.testing.assert_allclose(result[i], mean / np.linalg.norm(mean), atol=1e-5)


def test_no_windows_give_no_profiles() -> None:
    empty = np.empty(0, dtype=np.int64)
    assert profiles(np.ones((2, 3)), np.array([0, 1]), Windows(empty, empty), gamma=0.5).shape == (0, 3)
