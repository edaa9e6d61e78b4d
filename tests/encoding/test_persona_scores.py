from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from personarank_dagster.encoding import persona_scores as scoring
from personarank_dagster.ranking.ranker import Ranker
from tests.ranking.test_ranker import make_candidates, make_interactions, make_personas


@pytest.mark.parametrize("block_values", [1, 1 << 20])
def test_torch_gives_the_order_and_the_reasons_of_the_compiled_loop(block_values: int, monkeypatch) -> None:
    monkeypatch.setattr(scoring, "BLOCK_VALUES", block_values)
    rng = np.random.default_rng(1)
    lists = {f"u{n}": [(f"i{m}", float(-place)) for place, m in enumerate(rng.permutation(n + 1))] for n in range(30)}
    interactions = make_interactions(rng, {user: n % 6 for n, user in enumerate(lists)})
    personas = make_personas(rng, {f"i{n}": n % 5 for n in range(25)})
    ranker = Ranker.of(interactions, personas, k=4, gamma=0.7)
    expected = ranker.rerank(make_candidates(lists), half)
    got = replace(ranker, scorer=scoring.score_on_device("cpu")).rerank(make_candidates(lists), half)
    same = ["user_id", "rank", "item_id", "unique_persona_id"]
    assert got.select(same).equals(expected.select(same))
    assert got["persona_score"].to_list() == [pytest.approx(score, abs=1e-6) for score in expected["persona_score"]]
    item = pl.element().struct.field("item_id")
    items = [column["interactions"].list.eval(item).to_list() for column in (got, expected)]
    assert items[0] == items[1]


def half(users) -> np.ndarray:
    return np.full(len(users), 0.5)
