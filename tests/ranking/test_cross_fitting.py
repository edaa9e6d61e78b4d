from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from personarank_dagster.core.errors import InputError
from personarank_dagster.ranking.blending import NUM_FOLDS, folds_of, ndcg
from personarank_dagster.ranking.cross_fitting import (
    MIN_LESSONS,
    RETRIEVERS_ORDER,
    CrossFitting,
    Taught,
    jackknife_errors,
    learn_from,
    lost_without_each,
)
from personarank_dagster.ranking.learned import fit
from personarank_dagster.ranking.signals import SIGNALS

COUNTS = pl.DataFrame({"item_id": ["a"], "count": [1.0]})
NO_COUNTS = COUNTS.clear()
BEST_PERSONA = SIGNALS.index("best_persona")


def taught(seed: int, *, strength: float, num_users: int = 300, size: int = 8, first: float = 0.0) -> Taught:
    """Lists whose targets have a higher signal of the best persona, by `strength` deviations; a share is `first`."""
    rng = np.random.default_rng(seed)
    signals = rng.normal(size=(num_users * size, len(SIGNALS))).astype(np.float32)
    signals[:, 0] = np.tile(1 / np.log2(np.arange(size) + 2), num_users)
    is_target = np.zeros(num_users * size, np.bool_)
    places = np.where(rng.random(num_users) < first, 0, rng.integers(0, size, num_users))
    is_target[np.arange(num_users) * size + places] = True
    signals[is_target, BEST_PERSONA] += strength
    users = pl.Series("user_id", [f"u{number}" for number in range(num_users)])
    return Taught(users, np.arange(num_users + 1) * size, signals, is_target)


def naive_place(scores: np.ndarray, targets: np.ndarray) -> int:
    order = sorted(range(len(scores)), key=lambda pair: -scores[pair])
    return 1 + min((place for place, pair in enumerate(order) if targets[pair]), default=-1)


def retrievers_gain(lists: Taught) -> np.ndarray:
    return ndcg(lists.places(np.tile(RETRIEVERS_ORDER, (len(lists.users), 1))), 5)


def test_a_signal_that_tells_gets_weight_and_beats_the_retriever() -> None:
    lists = taught(0, strength=2.0)
    measured = learn_from(lists, counts=NO_COUNTS, k=5)
    assert measured.blend.serving.argmax() == BEST_PERSONA
    assert measured.blend.kept_orders == 0
    assert ndcg(measured.places, 5).mean() > retrievers_gain(lists).mean() + 0.2


def test_places_out_of_fold_are_those_of_a_naive_loop() -> None:
    lists = taught(1, strength=1.0)
    blend, folds = learn_from(lists, counts=NO_COUNTS, k=5).blend, folds_of(lists.users)
    naive = [
        naive_place(lists.signals[start:end].astype(np.float64) @ blend.folds[fold], lists.is_target[start:end])
        for (start, end), fold in zip(pairwise(lists.offsets), folds, strict=True)
    ]
    assert learn_from(lists, counts=NO_COUNTS, k=5).places.tolist() == naive


def test_the_weights_of_a_fold_are_those_of_a_fit_on_the_others() -> None:
    lists = taught(2, strength=1.0)
    every = range(len(SIGNALS))
    lessons, users = lists.lessons(every)
    folds = folds_of(users)
    alone = fit(lessons.take(np.flatnonzero(folds != 3)), l2=0.01)
    found, _ = CrossFitting(lessons, folds, 5, [0.01]).weights(every)
    assert found[3] == pytest.approx(alone.weights / alone.deviations, rel=1e-4, abs=1e-6)


def test_no_user_teaches_the_own_weights() -> None:
    lists = taught(3, strength=1.0)
    before = learn_from(lists, counts=NO_COUNTS, k=5).blend
    own = np.repeat(folds_of(lists.users) == 2, 8)
    lists.signals[own] = -lists.signals[own]
    after = learn_from(lists, counts=NO_COUNTS, k=5).blend
    assert after.folds[2].tolist() == before.folds[2].tolist()
    assert after.serving.tolist() != before.serving.tolist()


def test_without_any_signal_the_order_is_within_the_interval_of_the_retrievers_in_nineteen_of_twenty_seeds() -> None:
    outside = 0
    for seed in range(20):
        lists = taught(seed, strength=0.0, num_users=400)
        gained = ndcg(learn_from(lists, counts=NO_COUNTS, k=5).places, 5) - retrievers_gain(lists)
        outside += bool(abs(gained.mean()) > 1.96 * gained.std(ddof=1) / np.sqrt(len(gained)))
    assert outside <= 1


def test_what_does_not_beat_the_retriever_keeps_its_order() -> None:
    blend = learn_from(taught(5, strength=0.0, first=0.7), counts=NO_COUNTS, k=5).blend
    assert blend.kept_orders == NUM_FOLDS
    assert blend.serving.tolist() == RETRIEVERS_ORDER.tolist()


def test_few_lists_are_refused_with_their_number() -> None:
    few = taught(0, strength=1.0, num_users=MIN_LESSONS - 1)
    with pytest.raises(InputError, match=f"needs {MIN_LESSONS} users .* got {MIN_LESSONS - 1} of {MIN_LESSONS - 1}"):
        learn_from(few, counts=NO_COUNTS, k=5)


def test_only_the_signals_that_are_asked_for_have_weight() -> None:
    blend = learn_from(taught(0, strength=2.0), counts=NO_COUNTS, k=5, signals=("rank", "best_persona")).blend
    assert np.flatnonzero(blend.serving).tolist() == [0, BEST_PERSONA]


def test_the_signal_that_tells_is_the_one_that_is_missed() -> None:
    lost = lost_without_each(taught(0, strength=2.0), 5)
    assert max(lost, key=lost.__getitem__) == "best_persona"
    assert max(abs(value) for name, value in lost.items() if name != "best_persona") < lost["best_persona"] / 4


def test_a_signal_that_is_missed_is_missed_where_the_retrievers_order_is_kept_too() -> None:
    lists = taught(5, strength=0.0, first=0.7)
    assert learn_from(lists, counts=NO_COUNTS, k=5).blend.kept_orders == NUM_FOLDS
    assert lost_without_each(lists, 5)["rank"] > 0.05


def test_errors_are_those_of_what_was_fitted_not_of_what_was_kept() -> None:
    lists = taught(5, strength=0.0, first=0.7)
    every = range(len(SIGNALS))
    lessons, users = lists.lessons(every)
    fitting = CrossFitting(lessons, folds_of(users), 5)
    fits = fitting.fits(every, [fitting.penalty()] * NUM_FOLDS)
    assert learn_from(lists, counts=NO_COUNTS, k=5).blend.errors == pytest.approx(jackknife_errors(fits))
    assert (jackknife_errors(fits) > 0).all()


def test_measured_users_have_the_weights_of_their_fold_all_others_those_for_serving() -> None:
    lists = taught(4, strength=1.0)
    blend = learn_from(lists, counts=NO_COUNTS, k=5).blend
    weights = blend.weights_of(pl.Series(["new", *lists.users]))
    assert weights[0].tolist() == blend.serving.tolist()
    assert weights[1:].tolist() == blend.folds[folds_of(lists.users)].tolist()


def test_errors_are_those_of_the_jackknife() -> None:
    assert jackknife_errors(np.array([[1.0], [3.0]])) == pytest.approx([np.sqrt(0.5 * 2)])
