from functools import partial

import numpy as np
import polars as pl
import pytest

from personarank_dagster.ranking.blending import GRID, NUM_FOLDS, choose, folds_of, measure
from personarank_dagster.ranking.controls import popularity_and_random_places, shuffled_places
from personarank_dagster.ranking.ranker import Ranker, VectorTable
from tests.ranking.test_ranker import make_candidates, make_interactions, make_personas

USERS = [f"u{n}" for n in range(60)]


def two_tastes(*, signal: float) -> tuple[Ranker, pl.DataFrame, pl.DataFrame]:
    """Users along x and along y, each with a wrong item first and the right one second; noise hides the taste."""
    rng = np.random.default_rng(0)
    tastes = np.array([[1, 0] if n % 2 else [0, 1] for n in range(len(USERS))])
    noisy = signal * tastes + (1 - signal) * rng.normal(size=tastes.shape)
    interactions = VectorTable(noisy, make_interactions(rng, dict.fromkeys(USERS, 1)).index)
    personas = VectorTable(np.array([[1, 0], [0, 1]]), make_personas(rng, {"x": 1, "y": 1}).index)
    lists = {user: [("y", 2.0), ("x", 1.0)] if n % 2 else [("x", 2.0), ("y", 1.0)] for n, user in enumerate(USERS)}
    truth = pl.DataFrame({"user_id": USERS, "item_id": ["x" if n % 2 else "y" for n in range(len(USERS))]})
    return Ranker.of(interactions, personas, k=5, gamma=1.0), make_candidates(lists), truth


def test_personas_that_tell_get_weight_and_lift_the_truth() -> None:
    ranker, candidates, truth = two_tastes(signal=1.0)
    measured = measure(ranker, candidates, truth, alpha="auto", k=5)
    assert measured.blend.serving > 0.5
    assert set(measured.places) == {1}
    assert len(measured.blend.folds) == NUM_FOLDS
    assert measured.blend.curve[0] < measured.blend.curve[-1]


def test_personas_that_harm_get_no_weight_and_leave_the_candidate_order() -> None:
    ranker, candidates, truth = two_tastes(signal=1.0)
    misled = truth.with_columns(item_id=pl.when(pl.col("item_id") == "x").then(pl.lit("y")).otherwise(pl.lit("x")))
    measured = measure(ranker, candidates, misled, alpha="auto", k=5)
    assert (measured.blend.serving, set(measured.blend.folds), set(measured.places)) == (0.0, {0.0}, {1})


def test_no_user_takes_part_in_the_choice_of_the_own_blend() -> None:
    ranker, candidates, truth = two_tastes(signal=0.5)
    folds = folds_of(pl.Series(USERS))
    before = measure(ranker, candidates, truth, alpha="auto", k=5).blend
    flipped = pl.Series(np.where(folds == 2, "other", truth["item_id"].to_numpy()))
    after = measure(ranker, candidates, truth.with_columns(item_id=flipped), alpha="auto", k=5).blend
    assert after.folds[2] == before.folds[2]
    assert after.curve != before.curve


def test_measured_users_have_the_blend_of_their_fold_all_others_the_serving_one() -> None:
    ranker, candidates, truth = two_tastes(signal=0.4)
    blend = measure(ranker, candidates, truth, alpha="auto", k=5).blend
    users = pl.Series(["new", *USERS])
    folds = folds_of(pl.Series(USERS))
    assert blend.alphas_of(users).tolist() == [blend.serving, *(blend.folds[fold] for fold in folds)]


def test_gains_within_a_standard_error_choose_the_smaller_weight() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(100, 1)) * np.array([[0.0, 1.0, 1.0]])
    assert choose(0.5 + 0.001 * noise) == 0
    assert choose(np.array([0.0, 0.5, 0.501]) + 0.1 * rng.normal(size=(100, 3))) == 1
    assert choose(np.ones((0, 3))) == 0


def test_a_number_is_the_blend_of_all() -> None:
    ranker, candidates, truth = two_tastes(signal=1.0)
    measured = measure(ranker, candidates, truth, alpha=0.0, k=5)
    assert set(measured.places) == {2}
    assert measured.blend.alphas_of(pl.Series(["a", "b"])).tolist() == [0.0, 0.0]


def test_nothing_personal_is_left_with_the_profiles_of_others() -> None:
    ranker, candidates, truth = two_tastes(signal=1.0)
    own = measure(ranker, candidates, truth, alpha=1.0, k=5).places
    others = shuffled_places(ranker, candidates, truth, partial(measure, alpha=1.0, k=5))["shuffled"]
    assert own.mean() == 1
    assert others.mean() == pytest.approx(1.5, abs=0.2)


def test_popularity_and_chance_order_the_same_lists() -> None:
    ranker, candidates, truth = two_tastes(signal=1.0)
    reviews = pl.DataFrame({"user_id": ["u", "v", "u"], "item_id": ["x", "x", "y"]})
    places = popularity_and_random_places(ranker, candidates, truth, reviews)
    assert places["popularity"].to_list() == [1 if item == "x" else 2 for item in truth["item_id"]]
    assert places["random"].mean() == pytest.approx(1.5, abs=0.2)


def test_the_grid_begins_with_the_candidate_order() -> None:
    assert GRID[0] == 0
    assert GRID[-1] == 1
