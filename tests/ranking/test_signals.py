import numpy as np
import polars as pl
import pytest

from personarank_dagster.core import schemas
from personarank_dagster.ranking.ranker import Ranker, VectorTable, min_spread
from personarank_dagster.ranking.signals import (
    SIGNALS,
    item_counts,
    order_by_signals,
    rerank_by_signals,
    rerank_one_by_signals,
    signal_scores,
)
from tests.ranking.test_ranker import make_candidates, make_interactions, make_personas

GAMMA = 0.6
LISTS = {
    "many": [("one", 3.0), ("three", 1.0), ("none", 2.0), ("six", 0.5)],
    "single": [("six", 1.0), ("three", 4.0)],
    "stranger": [("one", 2.0), ("six", 1.0)],
}
COUNTS = pl.DataFrame({"item_id": ["one", "six"], "count": [3.0, 1.0]})


@pytest.fixture
def ranker() -> Ranker:
    rng = np.random.default_rng(5)
    interactions, personas = (
        make_interactions(rng, {"many": 7, "single": 1}),
        make_personas(rng, {"one": 1, "three": 3, "six": 6}),
    )
    return Ranker.of(interactions, personas, k=5, gamma=GAMMA)


def scaled(values: list[float]) -> list[float]:
    known = [value for value in values if not np.isnan(value)]
    if not known or max(known) - min(known) < min_spread():
        return [0.5] * len(values)
    return [0.5 if np.isnan(one) else (one - min(known)) / (max(known) - min(known)) for one in values]


def vectors_of(table: VectorTable, column: str, name: str) -> np.ndarray:
    rows = table.index.filter(pl.col(column) == name)["vector_row"].to_numpy()
    return np.asarray(table.vectors)[rows].astype(np.float16).astype(np.float64)


def naive_signals(ranker: Ranker, user: str) -> np.ndarray:
    own = vectors_of(ranker.interactions, "user_id", user)[-5:]
    profile = sum(GAMMA**age * vector for age, vector in enumerate(own[::-1]))
    found = []
    for item, _ in LISTS[user]:
        personas = vectors_of(ranker.personas, "item_id", item)
        if not len(personas) or not len(own):
            found.append([np.nan] * 5)
            continue
        cosines, pairs = np.sort(personas @ profile / np.linalg.norm(profile))[::-1], own @ personas.T
        found.append([cosines[0], cosines[:2].mean(), cosines.mean(), pairs.max(), pairs.max(axis=1).mean()])
    columns = [[1 / np.log2(place + 2) for place in range(len(found))], scaled([score for _, score in LISTS[user]])]
    columns += [scaled([row[number] for row in found]) for number in range(5)]
    counts = dict(COUNTS.iter_rows())
    return np.array([*columns, [np.log1p(counts.get(item, 0)) for item, _ in LISTS[user]]]).T


@pytest.mark.parametrize("user", LISTS)
def test_signals_are_those_of_a_naive_loop(ranker: Ranker, user: str) -> None:
    candidates = make_candidates({user: LISTS[user]})
    found = signal_scores(ranker, ranker.lists(candidates), candidates, COUNTS).signals
    assert found == pytest.approx(naive_signals(ranker, user), abs=1e-5)


def test_the_persona_that_is_best_and_its_reasons_are_those_of_a_fixed_blend(ranker: Ranker) -> None:
    lists = ranker.lists(make_candidates(LISTS))
    plain, found = ranker.score(lists, 3), ranker.persona_signals(lists, 5, 3)
    assert found.scores[:, 0] == pytest.approx(plain.scores, abs=1e-6, nan_ok=True)
    assert found.best.tolist() == plain.best.tolist()
    assert found.reasons.tolist() == plain.reasons.tolist()
    assert found.contributions == pytest.approx(plain.contributions, abs=1e-6)


def test_the_parts_of_a_place_sum_to_its_score_and_the_scores_of_a_list_to_0(ranker: Ranker) -> None:
    weights = np.random.default_rng(1).normal(size=len(SIGNALS))
    table = rerank_by_signals(ranker, make_candidates(LISTS), COUNTS, lambda users: np.tile(weights, (len(users), 1)))
    assert dict(table.schema) == schemas.RERANKED_BY_SIGNALS
    parts = table.select(pl.sum_horizontal(pl.col("signals").struct.unnest())).to_series()
    assert parts.to_list() == pytest.approx(table["score"].to_list(), abs=1e-5)
    assert table.group_by("user_id").agg(pl.col("score").sum())["score"].to_list() == pytest.approx([0] * 3, abs=1e-9)


def test_lists_are_ordered_by_the_weights_of_their_user_and_ties_keep_their_order(ranker: Ranker) -> None:
    lists = ranker.lists(make_candidates({"a": [("x", 1.0)] * 3, "b": [("x", 1.0)] * 3}))
    signals = np.zeros((6, len(SIGNALS)), np.float32)
    signals[:, 0] = [0.1, 0.3, 0.3, 0.1, 0.3, 0.3]
    weights = np.zeros((2, len(SIGNALS)))
    weights[:, 0] = [1.0, -1.0]
    assert order_by_signals(lists, signals, weights)[1].tolist() == [1, 2, 0, 3, 4, 5]


@pytest.mark.parametrize("user", LISTS)
def test_one_list_is_ranked_as_in_the_batch_to_the_last_bit(ranker: Ranker, user: str) -> None:
    weights = np.random.default_rng(2).normal(size=len(SIGNALS))
    candidates = make_candidates({user: LISTS[user]})
    table = rerank_by_signals(ranker, candidates, COUNTS, lambda users: weights[None, :])
    lists = ranker.lists(candidates)
    profile = int(lists.profiles.starts[0]), int(lists.profiles.ends[0])
    counts = dict(COUNTS.iter_rows())
    popularity = np.array([counts.get(item, 0.0) for item, _ in LISTS[user]])
    scores = candidates["candidate_score"].to_numpy()
    alone = rerank_one_by_signals(ranker, profile, lists.personas, scores, popularity, weights=weights, places=9)
    assert [LISTS[user][pair][0] for pair in alone.order] == table["item_id"].to_list()
    assert alone.final[alone.order].tolist() == table["score"].to_list()
    assert alone.parts[alone.order].tolist() == [list(row.values()) for row in table["signals"].to_list()]


def test_popularity_counts_every_training_interaction() -> None:
    assert dict(item_counts(pl.DataFrame({"item_id": ["a", "b", "a"]})).iter_rows()) == {"a": 2.0, "b": 1.0}
