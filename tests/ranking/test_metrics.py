import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from personarank_dagster.core import schemas
from personarank_dagster.core.errors import InputError
from personarank_dagster.ranking import metrics

RERANKED = pl.DataFrame(
    {
        "user_id": ["u", "u", "u", "v", "v", "w"],
        "item_id": ["a", "b", "c", "a", "b", "a"],
        "candidate_rank": [3, 1, 2, 1, 2, 1],
        "rank": [1, 2, 3, 1, 2, 1],
    }
)
# u holds out two items, one of them unlisted; v's is unlisted; x has no list; w has no ground truth.
GROUND_TRUTH = pl.DataFrame({"user_id": ["u", "u", "u", "v", "x"], "item_id": ["z", "c", "b", "q", "a"]})
RANKS = metrics.hit_ranks(RERANKED, GROUND_TRUTH)


def test_a_users_place_is_that_of_the_best_ground_truth_item() -> None:
    assert RANKS.rows() == [("u", 1, 2), ("v", None, None)]


def test_lists_and_ground_truth_of_different_users_are_an_error() -> None:
    with pytest.raises(InputError, match="of 3 with a list and 1 with a ground truth; do both files name users"):
        metrics.hit_ranks(RERANKED, pl.DataFrame({"user_id": ["U"], "item_id": ["a"]}))


def test_users_that_cannot_be_measured_are_counted() -> None:
    assert metrics.coverage(RERANKED, GROUND_TRUTH, RANKS, pl.Series(["u", "w"])) == metrics.Coverage(
        users=2,
        users_without_candidates=1,
        users_without_ground_truth=1,
        users_without_profile=1,
        ground_truth_in_list=1,
    )


def test_metrics_of_a_hand_computed_list() -> None:
    assert metrics.metrics_at(metrics.place_numbers(RANKS["reranked"]), [1, 2]) == pytest.approx(
        {"HIT@1": 0, "MRR@1": 0, "NDCG@1": 0, "HIT@2": 0.5, "MRR@2": 0.25, "NDCG@2": 0.5 / math.log2(3)}
    )


def compared(candidate: list[int], reranked: list[int], ks: list[int]) -> pl.DataFrame:
    places = {"candidate": np.array(candidate), "reranked": np.array(reranked)}
    return metrics.compare(places, ks, scenario="all")


def test_lift_is_relative_and_null_where_the_candidates_score_0() -> None:
    table = compared([4, 1], [1, 1], [1, 5])
    assert dict(table.schema) == schemas.METRICS
    lifts = dict(zip(table["metric"] + "@" + table["k"].cast(pl.String), table["lift"], strict=True))
    assert lifts["HIT@1"] == pytest.approx(1.0)
    assert lifts["MRR@5"] == pytest.approx(2 / 1.25 - 1)
    assert compared([9], [1], [1])["lift"].null_count() == 3


def test_users_moved_up_and_down_and_the_ceiling_are_counted() -> None:
    row = compared([4, 1, 2, 0, 3], [1, 2, 2, 0, 5], [5]).row(0, named=True)
    assert [row[name] for name in ("users", "moved_up", "moved_down", "unmoved", "ceiling")] == [5, 1, 2, 2, 0.8]


@given(st.lists(st.integers(0, 50), min_size=1))
def test_metrics_lie_in_0_1_grow_with_k_and_are_ordered(places: list[int]) -> None:
    at = metrics.metrics_at(np.array(places), [1, 5, 20])
    assert all(0 <= value <= 1 for value in at.values())
    for k in (1, 5, 20):
        assert at[f"MRR@{k}"] <= at[f"NDCG@{k}"] + 1e-12 <= at[f"HIT@{k}"] + 2e-12
    for name in metrics.METRIC_NAMES:
        assert at[f"{name}@1"] <= at[f"{name}@5"] <= at[f"{name}@20"]


@given(st.lists(st.integers(0, 30), min_size=1))
def test_metrics_equal_those_of_one_user_after_the_other(places: list[int]) -> None:
    at = metrics.metrics_at(np.array(places), [3, 10])
    for k in (3, 10):
        hits = [place for place in places if 0 < place <= k]
        gains = {"HIT": [1.0] * len(hits), "MRR": [1 / r for r in hits], "NDCG": [1 / math.log2(r + 1) for r in hits]}
        for name, values in gains.items():
            assert at[f"{name}@{k}"] == pytest.approx(sum(values) / len(places), abs=1e-12)


def test_without_users_every_metric_is_nan() -> None:
    assert all(math.isnan(value) for value in metrics.metrics_at(np.array([], dtype=np.int64), [5]).values())
    assert compared([], [], [5])["lift"].null_count() == 3


def test_the_interval_is_that_of_resampled_users() -> None:
    rng = np.random.default_rng(5)
    before, after = rng.integers(0, 12, 300), rng.integers(0, 9, 300)
    got = metrics.lifts(before, after, [10], resamples=4000)["NDCG@10"]
    gain = {r: 1 / math.log2(r + 1) if 0 < r <= 10 else 0.0 for r in range(13)}
    gains = np.array([[gain[b], gain[a]] for b, a in zip(before, after, strict=True)])
    users = rng.integers(0, 300, (4000, 300))
    sampled = gains[users, 1].sum(axis=1) / gains[users, 0].sum(axis=1) - 1
    assert [got.low, got.high] == pytest.approx(np.quantile(sampled, [0.025, 0.975]).tolist(), abs=0.02)
    assert got.low < got.lift < got.high


@pytest.mark.parametrize(
    ("before", "after", "floor"), [([1], [2], 1.0), ([1] * 100, [2] + [1] * 99, 1.0), ([3, 4], [1, 1], 0.5)]
)
def test_a_few_users_who_differ_say_nothing_for_sure(before: list[int], after: list[int], floor: float) -> None:
    lift = metrics.lifts(np.array(before), np.array(after), [5])["NDCG@5"]
    assert lift.lift is not None
    assert (lift.low, lift.high, lift.p) == (None, None, floor)


def test_six_coins_that_fall_alike_are_as_sure_as_six_coins_can_be() -> None:
    lift = metrics.lifts(np.full(6, 2), np.ones(6, np.int64), [5])["NDCG@5"]
    assert lift.p == 2 * 0.5**6
    assert lift.low is not None


def test_resamples_in_which_the_first_order_finds_nothing_count_too() -> None:
    before, after = np.zeros(60, np.int64), np.zeros(60, np.int64)
    before[0], after[:10], before[10:20] = 1, 1, 1
    assert metrics.lifts(before, after, [5])["HIT@5"].p > 0.5


def test_an_order_that_is_the_same_has_lift_0_without_doubt() -> None:
    places = np.array([1, 3, 0, 7])
    assert set(metrics.lifts(places, places, [5]).values()) == {metrics.Lift(0.0, 0.0, 0.0, 1.0)}


def test_scenarios_take_the_top_and_bottom_fifth_with_their_thresholds() -> None:
    counts = {f"u{n}": n for n in range(1, 6)}
    interactions = pl.DataFrame(
        [(user, f"i{user[1:]}") for user, count in counts.items() for _ in range(count)],
        schema=["user_id", "item_id"],
        orient="row",
    )
    truth = pl.DataFrame({"user_id": ["u1", "u2", "u2"], "item_id": ["i5", "i1", "i5"]})
    users = {name: sorted(found) for name, found in metrics.scenario_users(interactions, truth).items()}
    # The thresholds over counts 1..5 are 4.2 and 1.8.
    assert users == {"warm users": ["u5"], "cold users": ["u1"], "head items": ["u1"], "tail items": ["u2"]}
