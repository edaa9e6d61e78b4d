"""A listwise linear model of the place of a ground truth in its list, fitted in numpy and scipy."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from personarank_dagster.core.profiles import IntArray

Values = npt.NDArray[np.float64]


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
    found = minimize(
        loss_and_gradient, untold.weights, (scaled, l2), "L-BFGS-B", jac=True, options={"ftol": 1e-15, "gtol": 1e-9}
    )
    return LinearModel(np.asarray(found.x, dtype=np.float64), means, deviations)


def loss_and_gradient(weights: Values, lessons: Lessons, l2: float) -> tuple[float, Values]:
    """The loss of `fit` for signals as they are, and its gradient by the weights."""
    firsts, lengths = lessons.offsets[:-1], np.diff(lessons.offsets)
    scores = lessons.signals @ weights
    scores -= np.repeat(np.maximum.reduceat(scores, firsts), lengths)
    chances = np.exp(scores)
    sums = np.add.reduceat(chances, firsts)
    chances /= np.repeat(sums, lengths)
    loss = (np.log(sums).sum() - lessons.shares @ scores) / len(lessons) + l2 / 2 * weights @ weights
    gradient: Values = lessons.signals.T @ (chances - lessons.shares) / len(lessons) + l2 * weights
    return float(loss), gradient
