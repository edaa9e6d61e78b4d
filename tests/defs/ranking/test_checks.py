import polars as pl
import pytest

from personarank_dagster.defs.ranking.checks import (
    counted,
    not_below,
    of_one_encoder,
    recomputed,
    same_pairs,
    within_bounds,
)
from personarank_dagster.ranking import metrics
from tests.ranking.test_metrics import compared

METRICS = compared([4, 1, 7, 0], [1, 2, 3, 0], [1, 5])
LISTS = pl.DataFrame(
    {
        "user_id": ["u", "u", "v"],
        "rank": [1, 2, 1],
        "item_id": ["a", "b", "a"],
        "candidate_rank": [2, 1, 1],
    }
)
TRUTH = pl.DataFrame({"user_id": ["u", "x"], "item_id": ["a", "a"]})


def test_metrics_out_of_bounds_or_falling_with_k_fail() -> None:
    assert within_bounds(METRICS).passed
    assert within_bounds(METRICS.with_columns(reranked=pl.lit(1.2))).numbers["outside_0_1"] == METRICS.height
    assert within_bounds(METRICS.with_columns(candidate=1 / pl.col("k"))).numbers["falling_with_k"] == 3
    mixed = METRICS.with_columns(candidate=pl.when(pl.col("metric") == "MRR").then(0.9).otherwise(0.5))
    assert within_bounds(mixed).numbers["out_of_order"] == 2


def test_a_lost_and_a_foreign_candidate_fail() -> None:
    assert same_pairs(LISTS.lazy(), LISTS.lazy()).passed
    lost = same_pairs(LISTS.lazy(), LISTS[:2].lazy())
    assert (lost.passed, lost.numbers["missing"]) == (False, 1)
    foreign = same_pairs(LISTS.lazy(), LISTS.with_columns(item_id=pl.lit("q")).lazy())
    assert (foreign.passed, foreign.numbers["foreign"]) == (False, 3)
    assert not same_pairs(LISTS.lazy(), pl.concat([LISTS, LISTS[:1]]).lazy()).passed


def test_users_that_are_not_counted_fail() -> None:
    coverage = {"users": 1, "users_without_candidates": 1, "users_without_ground_truth": 1}
    users = LISTS["user_id"].unique(), TRUTH["user_id"]
    assert counted(*users, {"users": 1, "coverage": coverage}).passed
    assert not counted(*users, {"users": 2, "coverage": coverage}).passed
    assert not counted(*users, {"users": 1, "coverage": coverage | {"users_without_candidates": 0}}).passed


def test_a_loss_that_chance_does_not_explain_fails() -> None:
    assert not_below(METRICS).passed
    assert not_below(compared([2] * 50, [2] * 49 + [3], [5])).passed
    worse = not_below(compared([1] * 50, [4] * 40 + [1] * 10, [5]))
    assert not worse.passed
    assert worse.numbers["NDCG@5"].startswith("-")


@pytest.mark.parametrize(
    ("behind", "passed"),
    [
        ({}, True),
        ({"persona_cache": "0"}, False),
        ({"trained_encoder": "0"}, False),
        ({"trained_encoder": "0 and 1"}, False),
    ],
)
def test_lists_behind_which_stands_another_cache_or_encoder_fail(behind: dict[str, str], passed: bool) -> None:
    current = {"trained_encoder": "1", "interaction_cache": "1", "persona_cache": "1"}
    assert of_one_encoder(current | behind, current).passed is passed


def test_metrics_that_the_published_lists_do_not_have_fail() -> None:
    ranks = metrics.hit_ranks(LISTS, TRUTH)
    at = {
        order: metrics.metrics_at(metrics.place_numbers(ranks[order]), [1, 5]) for order in ("candidate", "reranked")
    }
    assert recomputed(LISTS, TRUTH, at).passed
    assert not recomputed(LISTS, TRUTH, at | {"reranked": at["candidate"]}).passed
