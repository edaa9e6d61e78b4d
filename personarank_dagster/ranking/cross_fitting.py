"""A blend that learns: weights of all signals, chosen so that no user's list is ranked by what it taught."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from personarank_dagster.core.errors import InputError
from personarank_dagster.core.profiles import IntArray
from personarank_dagster.ranking.blending import NUM_FOLDS, Measured, folds_of, measured_blocks, ndcg
from personarank_dagster.ranking.learned import Lessons, fit, loss_and_gradient
from personarank_dagster.ranking.ranker import Ranker, Scores, read_only
from personarank_dagster.ranking.signals import SIGNALS, Signals, rerank_by_signals, signal_scores

# Strengths of the penalty that are chosen from, within the folds that teach.
PENALTIES = (0.001, 0.003, 0.01, 0.03, 0.1)
# Lists with a listed target that are learned from: with fewer, what is learned is as often worse as better (see
# docs/reranking.md); with more, some dozen weights do not change.
MIN_LESSONS, MAX_LESSONS = 100, 5_000
# Weights that keep the retriever's order.
RETRIEVERS_ORDER: Scores = np.eye(len(SIGNALS))[0]
ALL_FOLDS = frozenset(range(NUM_FOLDS))


@dataclass(frozen=True)
class LearnedBlend:
    """The weight of every signal.

    `serving` (signals,) is by all users with a ground truth; each of these (`measured`) has those of its fold (folds,
    signals), which the users of the other folds taught. Weights of `RETRIEVERS_ORDER` mean that what was learned did
    not beat that order. `counts` are the training interactions of each item, behind the signal of popularity.
    """

    serving: Scores
    folds: Scores
    measured: pl.Series
    counts: pl.DataFrame
    errors: Scores = field(default_factory=lambda: np.zeros(len(SIGNALS)))

    def weights_of(self, users: pl.Series) -> Scores:
        """The weights (users, signals) for each user."""
        weights = np.tile(self.serving, (len(users), 1))
        measured = users.is_in(self.measured.implode()).to_numpy()
        weights[measured] = self.folds[folds_of(users.filter(measured))]
        return weights

    def rerank(self, ranker: Ranker, candidates: pl.DataFrame) -> pl.DataFrame:
        """Reorder candidate lists; columns of `schemas.RERANKED_BY_SIGNALS`."""
        return rerank_by_signals(ranker, candidates, self.counts, self.weights_of)

    @property
    def kept_orders(self) -> int:
        """Folds in which the retriever's order was kept."""
        return int((self.folds == RETRIEVERS_ORDER).all(axis=1).sum())


@dataclass(frozen=True)
class Taught:
    """The lists of users with a ground truth, as signals (pairs, signals); `is_target` (pairs,) marks it."""

    users: pl.Series
    offsets: IntArray
    signals: Signals
    is_target: npt.NDArray[np.bool_]

    def lessons(self, columns: Sequence[int]) -> tuple[Lessons, pl.Series]:
        """Lists whose target is listed, at most `MAX_LESSONS`, with some signals only; and their users."""
        targets = self.is_target.astype(np.int64)
        targets = np.add.reduceat(targets, self.offsets[:-1]) if len(self.users) else targets
        chosen = np.flatnonzero(targets > 0)
        if len(chosen) > MAX_LESSONS:
            mixed = np.array([zlib.crc32(user.encode()) // NUM_FOLDS for user in self.users[chosen]])
            chosen = np.sort(chosen[np.argsort(mixed, kind="stable")[:MAX_LESSONS]])
        lengths = np.diff(self.offsets)
        rows = np.isin(np.repeat(np.arange(len(lengths)), lengths), chosen)
        shares = self.is_target / np.repeat(np.maximum(targets, 1), lengths)
        offsets = np.append(0, lengths[chosen].cumsum())
        return Lessons(self.signals[rows][:, columns].astype(np.float64), offsets, shares[rows]), self.users[chosen]

    def places(self, weights: Scores) -> IntArray:
        """Place of each list's best target by the weights (lists, signals) of each, 0 where none is listed."""
        from personarank_dagster.ranking import kernels

        find: Any = kernels.best_target_places
        scores = (self.signals * np.repeat(weights, np.diff(self.offsets), axis=0)).sum(axis=1)
        places = np.empty(len(self.users), np.int64)
        find(*read_only(self.offsets, scores, self.is_target), places)
        return places


def learn(
    ranker: Ranker,
    candidates: pl.DataFrame | pl.LazyFrame,
    ground_truth: pl.DataFrame,
    *,
    counts: pl.DataFrame,
    k: int,
    signals: Sequence[str] = SIGNALS,
) -> Measured[LearnedBlend]:
    """Learn the weights of signals, and find the places of the ground truth in the lists of its users.

    `counts` as `signals.item_counts` gives them. What is learned replaces the retriever's order in a fold, and for
    serving, only where it beats that in NDCG@k by more than a standard error, by users whom it did not learn from.
    Raises InputError if fewer than `MIN_LESSONS` lists hold their ground truth.
    """
    return learn_from(read_lessons(ranker, candidates, ground_truth, counts), counts=counts, k=k, signals=signals)


def learn_from(
    taught: Taught, *, counts: pl.DataFrame, k: int, signals: Sequence[str] = SIGNALS
) -> Measured[LearnedBlend]:
    """`learn`, of lists that were read."""
    columns = [number for number, name in enumerate(SIGNALS) if name in signals]
    lessons, users = taught.lessons(columns)
    if len(lessons) < MIN_LESSONS:
        raise InputError(
            f"rerank.yaml: blend learned needs {MIN_LESSONS} users whose list holds their ground truth, got "
            f"{len(lessons)} of {len(taught.users)}; write blend: alpha, with alpha a number or auto"
        )
    fitting = CrossFitting(lessons, folds_of(users), k)
    folds, serving = fitting.weights(columns)
    blend = LearnedBlend(serving, folds, taught.users, counts, fitting.errors(columns))
    return Measured(taught.users, taught.places(blend.weights_of(taught.users)), blend)


def read_lessons(
    ranker: Ranker, candidates: pl.DataFrame | pl.LazyFrame, ground_truth: pl.DataFrame, counts: pl.DataFrame
) -> Taught:
    """The lists of users with a ground truth, as signals."""
    if ranker.elsewhere:
        taught: Taught = ranker.elsewhere.lessons(ground_truth, counts)
        return taught
    users, lengths = [pl.Series("user_id", dtype=pl.String)], [np.empty(0, np.int64)]
    signals, targets = [np.empty((0, len(SIGNALS)), np.float32)], [np.empty(0, np.bool_)]
    for block in measured_blocks(candidates, ground_truth):
        lists = ranker.lists(block)
        users.append(block["user_id"].gather(lists.offsets[:-1]))
        lengths.append(np.diff(lists.offsets))
        signals.append(signal_scores(ranker, lists, block, counts).signals)
        targets.append(block["is_target"].to_numpy())
    offsets = np.append(0, np.concatenate(lengths).cumsum())
    return Taught(pl.concat(users), offsets, np.concatenate(signals), np.concatenate(targets))


class CrossFitting:
    """Fits on some folds of the lessons, judged on the others; equal fits are made once."""

    def __init__(self, lessons: Lessons, folds: IntArray, k: int, penalties: Sequence[float] = PENALTIES) -> None:
        self.folds, self.k, self.penalties = folds, k, penalties
        self._of_fold = [lessons.take(np.flatnonzero(folds == fold)) for fold in range(NUM_FOLDS)]
        self._before = [self._gains(part, None) for part in self._of_fold]
        self._lessons = lessons
        self._fitted = cache(self._fit)

    def weights(self, columns: Sequence[int]) -> tuple[Scores, Scores]:
        """Weights of every signal for each fold (folds, signals), and for serving (signals,)."""
        chosen = [self._chosen(ALL_FOLDS - {fold}) for fold in range(NUM_FOLDS)] + [self._chosen(ALL_FOLDS)]
        found = np.stack([_spread(one, columns) for one in chosen])
        return found[:-1], found[-1]

    def fits(self, columns: Sequence[int], penalties: Sequence[float]) -> Scores:
        """Weights of every signal (folds, signals) by the other folds, whether they beat the retriever's or not."""
        by_fold = zip(range(NUM_FOLDS), penalties, strict=True)
        return np.stack([_spread(self._fitted(ALL_FOLDS - {fold}, l2), columns) for fold, l2 in by_fold])

    def errors(self, columns: Sequence[int]) -> Scores:
        """Standard errors (signals,) of the fitted serving weights: a jackknife over the folds, with one penalty."""
        return jackknife_errors(self.fits(columns, [self.penalty()] * NUM_FOLDS))

    def _chosen(self, teaching: frozenset[int]) -> Scores | None:
        """Weights by these folds with the best penalty, None where they do not beat the retriever's order."""
        l2 = self.penalty(teaching)
        gained = np.concatenate(
            [self._gains(self._of_fold[fold], self._fitted(teaching - {fold}, l2)) - self._before[fold]
             for fold in sorted(teaching)]
        )  # fmt: skip
        if len(gained) < 2:
            return None
        better = gained.mean() > gained.std(ddof=1) / np.sqrt(len(gained))
        return self._fitted(teaching, l2) if better else None

    def penalty(self, teaching: frozenset[int] = ALL_FOLDS) -> float:
        """The one with the least loss of the lists of each of these folds by the others."""
        losses = [sum(self._loss(teaching, fold, l2) for fold in teaching) for l2 in self.penalties]
        return self.penalties[int(np.argmin(losses))]

    def _fit(self, teaching: frozenset[int], l2: float) -> Scores:
        model = fit(self._lessons.take(np.flatnonzero(np.isin(self.folds, sorted(teaching)))), l2=l2)
        return model.weights / model.deviations

    def _loss(self, teaching: frozenset[int], fold: int, l2: float) -> float:
        """Summed loss of the lists of a fold by the others among those that teach."""
        lists = self._of_fold[fold]
        return len(lists) and len(lists) * loss_and_gradient(self._fitted(teaching - {fold}, l2), lists, 0.0)[0]

    def _gains(self, lists: Lessons, weights: Scores | None) -> Scores:
        """NDCG@k of every list, in the retriever's order where there are no weights."""
        scores = lists.signals @ weights if weights is not None else np.zeros(len(lists.signals))
        return ndcg(lists.places(scores), self.k)


def jackknife_errors(folds: Scores) -> Scores:
    """Standard errors of weights (folds, signals), of which each leaves out one fold of the users."""
    squares: Scores = np.square(folds - folds.mean(axis=0)).sum(axis=0)
    errors: Scores = np.sqrt((len(folds) - 1) / len(folds) * squares)
    return errors


def lost_without_each(taught: Taught, k: int) -> dict[str, float]:
    """By how much NDCG@k, of all users out of fold, falls where a signal is left out and the rest learned anew.

    What is learned stands for itself here, also where it did not beat the retriever's order. Each fold has the
    penalty that the others choose with all signals.
    """
    every = range(len(SIGNALS))
    lessons, users = taught.lessons(every)
    whole = CrossFitting(lessons, folds_of(users), k)
    penalties = [whole.penalty(ALL_FOLDS - {fold}) for fold in range(NUM_FOLDS)]

    def mean(columns: Sequence[int]) -> float:
        lessons, users = taught.lessons(columns)
        folds = CrossFitting(lessons, folds_of(users), k).fits(columns, penalties)
        return float(ndcg(taught.places(folds[folds_of(taught.users)]), k).mean())

    of_all = mean(every)
    return {name: of_all - mean([one for one in every if one != left]) for left, name in enumerate(SIGNALS)}


def _spread(weights: Scores | None, columns: Sequence[int]) -> Scores:
    """Weights of all signals, 0 for those that were not learned from."""
    if weights is None:
        return RETRIEVERS_ORDER.copy()
    spread = np.zeros(len(SIGNALS))
    # As many digits as a manifest keeps, so that a service has the same weights.
    spread[[*columns]] = [float(f"{weight:.6g}") for weight in weights]
    return spread
