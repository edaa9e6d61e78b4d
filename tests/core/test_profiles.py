import numpy as np

from personarank_dagster.core.profiles import Windows, decay_weights, window_weights
from personarank_dagster.ranking import kernels

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


def test_profiles_are_the_unit_weighted_means_of_their_rows() -> None:
    vectors = RNG.normal(size=(40, 8)).astype(np.float16)
    rows, weights = RNG.integers(0, 40, size=60).astype(np.uint32), decay_weights(np.arange(10), 0.65)
    profile = np.empty(8, np.float32)
    for start in range(50):
        end = start + 1 + start % 10
        kernels.fill_profile(profile, start, end, vectors.view(np.uint16), rows, weights)
        decay = 0.65 ** np.arange(end - start)[::-1]
        mean = (decay[:, None] * vectors[rows[start:end]].astype(np.float64)).sum(axis=0)
        np.testing.assert_allclose(profile, mean / np.linalg.norm(mean), atol=1e-5)
