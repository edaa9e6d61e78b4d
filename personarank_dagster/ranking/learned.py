"""A listwise linear model of the place of a ground truth in its list, fitted in numpy and scipy."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from personarank_dagster.core.profiles import IntArray
from personarank_dagster.ranking.ranker import read_only

Values = npt.NDArray[np.float64]

# Length of the gradient at which a fit ends: weights are then exact to some eight digits.
TOLERANCE = 1e-8


@dataclass(frozen=True)
class Lessons:
    """Lists that have a target: the pairs offsets[i]:offsets[i + 1] are list i, which is not empty.

    `signals` (pairs, signals) must be finite; `shares` (pairs,) are 1 / number of targets at a target, else 0.
    """

    signals: Values
    offsets: IntArray
    shares: Values

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def take(self, lists: IntArray) -> "Lessons":
        """Some of the lists, in ascending order."""
        lengths = np.diff(self.offsets)
        rows = np.isin(np.repeat(np.arange(len(self)), lengths), lists)
        return Lessons(self.signals[rows], np.append(0, lengths[lists].cumsum()), self.shares[rows])

    def places(self, scores: Values) -> IntArray:
        """Place (from 1) of each list's best target by the scores of the pairs; ties keep their order."""
        from personarank_dagster.ranking import kernels

        find: Any = kernels.best_target_places
        places = np.empty(len(self), np.int64)
        find(*read_only(self.offsets, scores, self.shares > 0), places)
        return places


@dataclass(frozen=True)
class LinearModel:
    """Weights of signals, each scaled to mean 0 and deviation 1 over the pairs that were learned from."""

    weights: Values
    means: Values
    deviations: Values

    def parts(self, signals: Values) -> Values:
        """What each signal (pairs, signals) adds to the score; the parts of a pair sum to it."""
        parts: Values = (signals - self.means) / self.deviations * self.weights
        return parts


def fit(lessons: Lessons, *, l2: float) -> LinearModel:
    """Minimise the mean over lists of -log softmax(score) at the target, plus l2 / 2 times the squared weights.

    Several targets of a list count equally. The problem is convex: with l2 > 0 there is one answer. A signal that
    never differs gets weight 0, and so does every signal where there is no list.
    """
    from scipy.optimize import minimize

    num_signals = lessons.signals.shape[1]
    untold = LinearModel(np.zeros(num_signals), np.zeros(num_signals), np.ones(num_signals))
    if not len(lessons):
        return untold
    means, spread = lessons.signals.mean(axis=0), lessons.signals.std(axis=0)
    deviations = np.where(spread > 0, spread, 1.0)
    scaled = replace(lessons, signals=(lessons.signals - means) / deviations)
    # Steps by the curvature: a dozen of them, where gradients alone take hundreds.
    found = minimize(
        loss_and_gradient,
        untold.weights,
        (scaled, l2),
        "trust-exact",
        jac=True,
        hess=curvature,
        options={"gtol": TOLERANCE},
    )
    return LinearModel(np.asarray(found.x, dtype=np.float64), means, deviations)


def loss_and_gradient(weights: Values, lessons: Lessons, l2: float) -> tuple[float, Values]:
    """The loss of `fit` for signals as they are, and its gradient by the weights."""
    scores = lessons.signals @ weights
    chances, logarithms = _chances(scores, lessons)
    loss = (logarithms.sum() - lessons.shares @ scores) / len(lessons) + l2 / 2 * weights @ weights
    gradient: Values = lessons.signals.T @ (chances - lessons.shares) / len(lessons) + l2 * weights
    return float(loss), gradient


def curvature(weights: Values, lessons: Lessons, l2: float) -> Values:
    """The second derivatives (signals, signals) of the loss of `fit`: covariances within lists."""
    chances, _ = _chances(lessons.signals @ weights, lessons)
    weighted = lessons.signals * chances[:, None]
    means = np.add.reduceat(weighted, lessons.offsets[:-1], axis=0)
    found: Values = (lessons.signals.T @ weighted - means.T @ means) / len(lessons)
    return found + l2 * np.eye(len(weights))


def _chances(scores: Values, lessons: Lessons) -> tuple[Values, Values]:
    """Softmax of the scores over each list, and the logarithm of the sum of exp(score) of each."""
    firsts, lengths = lessons.offsets[:-1], np.diff(lessons.offsets)
    highest = np.maximum.reduceat(scores, firsts)
    chances = np.exp(scores - np.repeat(highest, lengths))
    sums = np.add.reduceat(chances, firsts)
    return chances / np.repeat(sums, lengths), np.log(sums) + highest
