import numpy as np
import polars as pl
import pytest

from personarank_dagster.core import schemas
from personarank_dagster.ranking import metrics
from personarank_dagster.ranking.list_metrics import gini, list_metrics
from personarank_dagster.ranking.ranker import VectorTable
from personarank_dagster.ranking.set_metrics import set_metrics


def reranked(*items: str, user: str = "u") -> pl.DataFrame:
    places = np.arange(1, len(items) + 1)
    persona = [f"{item}_P1" for item in items]
    columns = {"user_id": user, "item_id": [*items], "rank": places, "candidate_rank": places[::-1]}
    return pl.DataFrame(columns).with_columns(unique_persona_id=pl.Series(persona))


def test_recall_precision_and_map_count_every_target() -> None:
    truth = pl.DataFrame({"user_id": ["u"] * 3, "item_id": ["a", "d", "elsewhere"]})
    found = set_metrics(reranked("a", "b", "c", "d"), truth, pl.Series(["u"]), [2, 4])
    assert found["RECALL@2"]["reranked"].tolist() == pytest.approx([1 / 3])
    assert found["PRECISION@4"]["reranked"].tolist() == pytest.approx([2 / 4])
    assert found["MAP@4"]["reranked"].tolist() == pytest.approx([(1 / 1 + 2 / 4) / 3])
    assert found["MAP@2"]["candidate"].tolist() == pytest.approx([(1 / 1) / 2])


def test_with_one_target_recall_is_hit_and_map_is_mrr() -> None:
    truth = pl.DataFrame({"user_id": ["u", "v"], "item_id": ["c", "none"]})
    lists = pl.concat([reranked("a", "b", "c"), reranked("a", "b", user="v")])
    found = set_metrics(lists, truth, pl.Series(["u", "v"]), [3])
    plain = metrics.metrics_at(np.array([3, 0]), [3])
    assert found["RECALL@3"]["reranked"].mean() == plain["HIT@3"]
    assert found["MAP@3"]["reranked"].mean() == pytest.approx(plain["MRR@3"])


def personas() -> VectorTable:
    index = pl.DataFrame({"item_id": ["a", "b", "c", "d"], "vector_row": [0, 1, 2, 3]})
    named = index.with_columns(unique_persona_id=pl.col("item_id") + "_P1")
    return VectorTable(np.array([[1, 0], [0, 1], [1, 0], [-1, 0]], np.float16), named)


def test_what_lists_offer_besides_hits() -> None:
    lists = pl.concat([reranked("a", "b"), reranked("a", "c", user="v")])
    known = pl.DataFrame({"user_id": ["u", "v", "w"], "item_id": ["a", "a", "b"]})
    found = list_metrics(lists, known, personas(), order="rank", ks=[1, 2])
    assert (found["COVERAGE@1"], found["COVERAGE@2"]) == (1 / 4, 3 / 4)
    assert found["NOVELTY@1"] == pytest.approx(-np.log2(3 / 4))
    assert found["NOVELTY@2"] == pytest.approx(-(2 * np.log2(3 / 4) + np.log2(2 / 4) + np.log2(1 / 4)) / 4)
    assert (found["DIVERSITY@1"], found["DIVERSITY@2"]) == (None, pytest.approx((1 + 0) / 2))


def test_gini_is_0_where_all_are_shown_alike_and_grows_to_1() -> None:
    assert gini(np.array([3, 3, 3])) == pytest.approx(0)
    assert gini(np.array([0, 0, 0, 4])) == pytest.approx(3 / 4)
    assert gini(np.zeros(3, np.int64)) == 0


def test_holms_correction_multiplies_by_the_tests_that_are_left() -> None:
    assert metrics.holm([0.01, None, 0.04, 0.03]) == pytest.approx([0.03, None, 0.06, 0.06])
    assert metrics.holm([0.9, 0.8]) == [1.0, 1.0]


def test_a_lift_that_every_resample_has_is_sure_and_one_by_chance_is_not() -> None:
    rng = np.random.default_rng(0)
    before = rng.integers(1, 20, 400)
    assert metrics.lifts(before, np.maximum(1, before - 3), [10])["NDCG@10"].p < 0.002
    assert metrics.lifts(before, rng.permutation(before), [10])["NDCG@10"].p > 0.05


def test_all_metrics_of_a_scenario_are_corrected_together() -> None:
    before = np.tile([1, 2], 50)
    places = {"candidate": before, "reranked": before[::-1].copy()}
    values = {"RECALL@5": {order: (found == 1).astype(float) for order, found in places.items()}}
    users = pl.Series([str(user) for user in range(100)])
    table = metrics.compare_scenarios(users, places, {}, [5], values)
    alone = metrics.lifts(places["candidate"], places["reranked"], [5])
    several = metrics.holm(
        [*(lift.p for lift in alone.values()), metrics.lift_of_values(*values["RECALL@5"].values()).p]
    )
    assert table["lift_p"].to_list() == several
    assert len(several) == 4


def test_without_a_catalogue_lists_have_no_metrics() -> None:
    none = VectorTable(np.empty((0, 2), np.float16), personas().index.clear())
    known = pl.DataFrame({"user_id": ["u"], "item_id": ["a"]})
    found = list_metrics(reranked("a").clear(), known, none, order="rank", ks=[5])
    assert set(found.values()) == {None}


def test_other_metrics_stand_beside_those_of_places_with_their_interval() -> None:
    users = pl.Series(["u", "v"])
    places = {"candidate": np.array([2, 3]), "reranked": np.array([1, 3])}
    values = {"RECALL@5": {"candidate": np.array([0.5, 0.5]), "reranked": np.array([1.0, 1.0])}}
    table = metrics.compare_scenarios(users, places, {}, [5], values)
    row = table.filter(metric="RECALL").row(0, named=True)
    assert (row["candidate"], row["reranked"], row["lift"], row["lift_low"]) == (0.5, 1.0, 1.0, None)
    both = metrics.with_list_metrics(table, {"candidate": {"GINI@5": 0.2}, "reranked": {"GINI@5": 0.1}})
    assert dict(both.schema) == schemas.METRICS
    assert both.filter(metric="GINI")["lift"].to_list() == [None]
