"""Our metrics against those of ranx, on random lists whose scores tie."""

import os
import warnings

import numpy as np
import polars as pl
import pytest

from personarank_dagster.ranking import metrics
from personarank_dagster.ranking.set_metrics import set_metrics

KS = (3, 5)
NAMES = {"RECALL": "recall", "PRECISION": "precision", "MAP": "map"} | {
    "HIT": "hit_rate",
    "MRR": "mrr",
    "NDCG": "ndcg",
}
# Each metric of ranx takes seconds to compile: PERSONARANK_RANX=all compares all of them.
COMPARED = [*NAMES.values()][:-1] if os.environ.get("PERSONARANK_RANX") == "all" else ["map"]


def random_lists(seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    rng = np.random.default_rng(seed)
    rows, truth = [], []
    for user in range(40):
        items = [f"i{number}" for number in rng.permutation(12)]
        scores = np.sort(rng.integers(0, 4, 12))[::-1]
        rows += [
            (f"u{user}", item, place, float(score))
            for place, (item, score) in enumerate(zip(items, scores, strict=True), 1)
        ]
        truth += [(f"u{user}", f"i{number}") for number in rng.choice(15, rng.integers(1, 4), replace=False)]
    lists = pl.DataFrame(rows, schema=["user_id", "item_id", "rank", "score"], orient="row")
    return lists.with_columns(candidate_rank="rank"), pl.DataFrame(truth, schema=["user_id", "item_id"], orient="row")


def by_ranx(lists: pl.DataFrame, truth: pl.DataFrame, names: list[str]) -> dict[str, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ranx import Qrels, Run, evaluate

        relevant = {user[0]: dict.fromkeys(rows["item_id"], 1) for user, rows in truth.group_by("user_id")}
        # It sorts by score and knows no order of ties, so the places are its scores.
        listed = {
            user[0]: dict(rows.select("item_id", -pl.col("rank").cast(pl.Float64)).rows())
            for user, rows in lists.group_by("user_id")
        }
        return {name: float(value) for name, value in evaluate(Qrels(relevant), Run(listed), names).items()}


def ours(lists: pl.DataFrame, truth: pl.DataFrame) -> dict[str, float]:
    """By ranx's names. NDCG is that of one target a user."""
    users, ranks = truth["user_id"].unique(maintain_order=True), metrics.hit_ranks(lists, truth)
    found = metrics.metrics_at(metrics.place_numbers(ranks["reranked"]), KS)
    found |= {key: float(one["reranked"].mean()) for key, one in set_metrics(lists, truth, users, KS).items()}
    return {f"{NAMES[name]}@{k}": value for (name, k), value in ((key.split("@"), one) for key, one in found.items())}


@pytest.mark.parametrize("seed", range(3))
def test_metrics_are_those_of_ranx(seed: int) -> None:
    lists, truth = random_lists(seed)
    compared = [f"{name}@{k}" for name in COMPARED for k in KS]
    expected = by_ranx(lists, truth, compared)
    assert {name: ours(lists, truth)[name] for name in compared} == pytest.approx(expected, abs=1e-9)


def test_the_ndcg_of_one_target_is_that_of_ranx() -> None:
    lists, truth = random_lists(3)
    first = truth.unique("user_id", keep="first", maintain_order=True)
    expected = by_ranx(lists, first, ["ndcg@3", "ndcg@5"])
    assert {name: ours(lists, first)[name] for name in expected} == pytest.approx(expected, abs=1e-9)
