import numpy as np
import pytest

from personarank_dagster.vectors.matrices import row_lengths


def test_lengths_are_those_of_numpy() -> None:
    matrix = (np.random.default_rng(0).normal(size=(1500, 24)) * 1e-2).astype(np.float16)
    matrix[0], matrix[1, 0] = 0, 6e-8  # the smallest number of fp16
    naive = np.sqrt((matrix.astype(np.float64) ** 2).sum(axis=1))
    np.testing.assert_allclose(row_lengths(matrix), naive, rtol=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_row_with_a_number_that_is_not_finite_has_no_finite_length(value: float) -> None:
    matrix = np.full((3, 4), 0.5, dtype=np.float16)
    matrix[1, 2] = value
    assert np.isfinite(row_lengths(matrix)).tolist() == [True, False, True]
