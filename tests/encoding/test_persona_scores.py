from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from personarank_dagster.encoding import persona_scores as scoring
from personarank_dagster.ranking.ranker import Ranker
from tests.ranking.test_ranker import make_candidates, make_interactions, make_personas

# Adds by atomics on a GPU, in no fixed order: what `torch.use_deterministic_algorithms` lists of forward operations.
ATOMIC = {
    "bincount",
    "cumsum",
    "histc",
    "index_add",
    "index_put",
    "index_reduce",
    "put",
    "scatter_add",
    "scatter_reduce",
}


class Operations(TorchDispatchMode):
    """Collects the names of all operations of torch while it is open."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.names.add(operation.overloadpacket.__name__.strip("_"))
        return operation(*args, **(kwargs or {}))


def problem() -> tuple[Ranker, pl.DataFrame]:
    """Thirty lists of 1 to 30 candidates, some without a profile or personas."""
    rng = np.random.default_rng(1)
    lists = {f"u{n}": [(f"i{m}", float(-place)) for place, m in enumerate(rng.permutation(n + 1))] for n in range(30)}
    interactions = make_interactions(rng, {user: n % 6 for n, user in enumerate(lists)})
    personas = make_personas(rng, {f"i{n}": n % 5 for n in range(25)})
    return Ranker.of(interactions, personas, k=4, gamma=0.7), make_candidates(lists)


def test_nothing_is_added_in_an_order_that_changes_from_run_to_run() -> None:
    ranker, candidates = problem()
    with Operations() as used:
        replace(ranker, scorer=scoring.score_on_device("cpu")).rerank(candidates, half)
    assert {"mul", "sum"} <= used.names
    assert not used.names & ATOMIC


def test_sums_are_those_of_each_lists_own_rows() -> None:
    rows = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    assert scoring._sums(rows, np.array([0, 2, 0, 1])).tolist() == [[0, 0], [4, 6], [0, 0], [5, 6]]
    assert scoring._sums(rows[:0], np.array([0, 0])).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("block_values", [1, 1 << 20])
def test_torch_gives_the_order_and_the_reasons_of_the_compiled_loop(block_values: int, monkeypatch) -> None:
    monkeypatch.setattr(scoring, "BLOCK_VALUES", block_values)
    ranker, candidates = problem()
    expected = ranker.rerank(candidates, half)
    got = replace(ranker, scorer=scoring.score_on_device("cpu")).rerank(candidates, half)
    same = ["user_id", "rank", "item_id", "unique_persona_id"]
    assert got.select(same).equals(expected.select(same))
    assert got["persona_score"].to_list() == [pytest.approx(score, abs=1e-6) for score in expected["persona_score"]]
    item = pl.element().struct.field("item_id")
    items = [column["interactions"].list.eval(item).to_list() for column in (got, expected)]
    assert items[0] == items[1]


def half(users) -> np.ndarray:
    return np.full(len(users), 0.5)
