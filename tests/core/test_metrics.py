import math

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from personarank_dagster.core import metrics, schemas
from personarank_dagster.core.errors import InputError

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
    assert metrics.coverage(RERANKED, GROUND_TRUTH, RANKS) == metrics.Coverage(
        users=2, users_without_candidates=1, users_without_ground_truth=1, ground_truth_in_list=1
    )


def test_metrics_of_a_hand_computed_list() -> None:
    assert metrics.metrics_at(RANKS["reranked"], [1, 2]) == pytest.approx(
        {"HIT@1": 0, "MRR@1": 0, "NDCG@1": 0, "HIT@2": 0.5, "MRR@2": 0.25, "NDCG@2": 0.5 / math.log2(3)}
    )


def test_lift_is_relative_and_null_where_the_candidates_score_0() -> None:
    table = metrics.compare(pl.DataFrame({"candidate": [4, 1], "reranked": [1, 1]}), [1, 5], scenario="all")
    assert dict(table.schema) == schemas.METRICS
    lifts = dict(zip(table["metric"] + "@" + table["k"].cast(pl.String), table["lift"], strict=True))
    assert lifts["HIT@1"] == pytest.approx(1.0)
    assert lifts["MRR@5"] == pytest.approx(2 / 1.25 - 1)
    nothing = metrics.compare(pl.DataFrame({"candidate": [9], "reranked": [1]}), [1], scenario="all")
    assert nothing["lift"].null_count() == 3


@given(st.lists(st.none() | st.integers(1, 50), min_size=1))
def test_metrics_lie_in_0_1_grow_with_k_and_are_ordered(places: list[int | None]) -> None:
    at = metrics.metrics_at(pl.Series(places, dtype=pl.UInt32), [1, 5, 20])
    assert all(0 <= value <= 1 for value in at.values())
    for k in (1, 5, 20):
        assert at[f"MRR@{k}"] <= at[f"NDCG@{k}"] + 1e-12 <= at[f"HIT@{k}"] + 2e-12
    for name in metrics.METRIC_NAMES:
        assert at[f"{name}@1"] <= at[f"{name}@5"] <= at[f"{name}@20"]


def test_without_users_every_metric_is_nan() -> None:
    assert all(math.isnan(value) for value in metrics.metrics_at(pl.Series([], dtype=pl.UInt32), [5]).values())


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
