from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from personarank_dagster.core.errors import ConfigError
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


def test_vectors_travel_once_for_all_lists_of_a_ranker_and_in_parts(monkeypatch) -> None:
    ranker, candidates = problem()
    ranker.personas.vectors.setflags(write=False)
    monkeypatch.setattr(scoring, "SENT_VALUES", 7)
    sent = []
    place = scoring._Tables._place
    monkeypatch.setattr(scoring._Tables, "_place", lambda self, table: sent.append(table) or place(self, table))
    on_device = replace(ranker, scorer=scoring.score_on_device("cpu"))
    expected = ranker.rerank(candidates, half)
    for again in (on_device, on_device.with_exchanged_profiles(seed=1), on_device):
        got = again.rerank(candidates, half)
    assert [one is other for one, other in zip(sent, (ranker.interactions, ranker.personas), strict=True)] == [
        True
    ] * 2
    assert got["item_id"].equals(expected["item_id"])


def test_without_reasons_the_scores_are_the_same() -> None:
    ranker, candidates = problem()
    lists, scorer = ranker.lists(candidates), scoring.score_on_device("cpu")
    without, reasoned = (scorer(ranker, lists, number) for number in (0, 3))
    np.testing.assert_array_equal(without.scores, reasoned.scores)
    np.testing.assert_array_equal(without.best, reasoned.best)
    assert (without.reasons.shape, reasoned.reasons.shape) == ((len(without.best), 0), (len(without.best), 3))


def test_no_lists_have_no_scores() -> None:
    ranker, candidates = problem()
    none = scoring.score_on_device("cpu")(ranker, ranker.lists(candidates.clear()), 3)
    assert (len(none.scores), none.reasons.shape) == (0, (0, 3))


def test_vectors_that_a_gpu_has_no_memory_for_are_an_error(monkeypatch) -> None:
    def full(*shape: int, **settings: object) -> torch.Tensor:
        raise torch.OutOfMemoryError

    ranker, candidates = problem()
    monkeypatch.setattr(torch, "empty", full)
    with pytest.raises(
        ConfigError, match=r"gpu.device cpu: the vectors of a cache must fit .*; set gpu.device to cpu"
    ):
        scoring.score_on_device("cpu")(ranker, ranker.lists(candidates), 0)


def half(users) -> np.ndarray:
    return np.full(len(users), 0.5)
