from itertools import pairwise

import numpy as np
import pytest
from scipy.optimize import approx_fprime, minimize

from personarank_dagster.ranking.learned import Lessons, fit, loss_and_gradient


def lessons(seed: int, num_lists: int = 30, num_signals: int = 3) -> Lessons:
    rng = np.random.default_rng(seed)
    offsets = np.append(0, rng.integers(2, 8, num_lists).cumsum())
    signals, shares = rng.normal(size=(offsets[-1], num_signals)), np.zeros(offsets[-1])
    for start, end in pairwise(offsets):
        targets = rng.choice(np.arange(start, end), rng.integers(1, 3), replace=False)
        shares[targets] = 1 / len(targets)
        signals[targets, 0] += 0.7
    return Lessons(signals, offsets, shares)


def naive_loss(weights: np.ndarray, data: Lessons, l2: float) -> float:
    total = 0.0
    for start, end in pairwise(data.offsets):
        chances = np.exp(data.signals[start:end] @ weights)
        total -= data.shares[start:end] @ np.log(chances / chances.sum())
    return total / len(data) + l2 / 2 * (weights**2).sum()


def test_the_loss_of_two_equal_pairs_is_the_logarithm_of_two():
    two = Lessons(np.array([[1.0], [0.0]]), np.array([0, 2]), np.array([1.0, 0.0]))
    loss, gradient = loss_and_gradient(np.zeros(1), two, 0.0)
    assert loss == pytest.approx(np.log(2))
    assert gradient == pytest.approx(np.array([-0.5]))


@pytest.mark.parametrize("seed", range(3))
def test_the_loss_and_its_gradient_are_those_of_a_naive_loop(seed):
    data, weights = lessons(seed), np.random.default_rng(seed).normal(size=3)
    loss, gradient = loss_and_gradient(weights, data, 0.1)
    assert loss == pytest.approx(naive_loss(weights, data, 0.1))
    assert gradient == pytest.approx(approx_fprime(weights, naive_loss, 1e-7, data, 0.1), abs=1e-5)


def test_the_weights_are_those_of_another_optimiser_on_the_naive_loss():
    data = lessons(13)
    scaled = (data.signals - data.signals.mean(axis=0)) / data.signals.std(axis=0)
    args = (Lessons(scaled, data.offsets, data.shares), 0.05)
    alone = minimize(naive_loss, np.zeros(3), args, "Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-13})
    assert fit(data, l2=0.05).weights == pytest.approx(alone.x, abs=1e-5)


def test_a_signal_that_never_differs_gets_no_weight():
    data = lessons(1)
    data.signals[:, 2] = 4.0
    assert fit(data, l2=0.05).weights[2] == 0


def test_a_stronger_l2_gives_smaller_weights():
    sizes = [np.abs(fit(lessons(2), l2=l2).weights).sum() for l2 in (0.001, 0.1, 10.0)]
    assert sizes == sorted(sizes, reverse=True)


def test_without_a_list_no_signal_has_a_weight():
    none = Lessons(np.empty((0, 3)), np.array([0]), np.empty(0))
    assert not fit(none, l2=0.1).weights.any()


def test_the_parts_of_a_pair_sum_to_its_score():
    data = lessons(3)
    model = fit(data, l2=0.05)
    scaled = (data.signals - model.means) / model.deviations
    assert model.parts(data.signals).sum(axis=1) == pytest.approx(scaled @ model.weights)
