import importlib.util

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personarank_dagster.configuration.settings import RetrieverConfig
from personarank_dagster.core import schemas
from personarank_dagster.core.errors import ConfigError
from personarank_dagster.preparation.retrieval.lists import candidate_lists

LIKED = [("u", "a", 5.0), ("v", "a", 5.0), ("v", "b", 5.0), ("w", "b", 5.0), ("w", "c", 5.0), ("x", "c", 5.0)]
HAS_IMPLICIT = importlib.util.find_spec("implicit") is not None


def interactions(rows: list[tuple[str, str, float]]) -> pl.LazyFrame:
    return pl.LazyFrame(rows, schema=["user_id", "item_id", "rating"], orient="row")


def lists(rows: list[tuple[str, str, float]], **settings: object) -> list[tuple[str, str, float]]:
    table = candidate_lists(interactions(rows), RetrieverConfig(**settings))
    return table.select("user_id", "item_id", pl.col("candidate_score").round(3)).rows()


def test_neighbours_are_ranked_by_the_sum_of_their_cosines() -> None:
    # u liked a: b shares v with it, 1 / sqrt(2 * 2). c is liked as much as any: half of the lowest cosine.
    assert [row for row in lists(LIKED) if row[0] in "uw"] == [("u", "b", 0.5), ("u", "c", 0.25), ("w", "a", 0.5)]


def test_what_a_user_disliked_is_neither_liked_nor_offered() -> None:
    disliked = [*LIKED, ("u", "b", 1.0)]
    assert [row for row in lists(disliked) if row[0] == "u"] == [("u", "c", 0.25)]


def test_a_user_who_liked_nothing_has_the_most_liked_items() -> None:
    rows = [*LIKED, ("z", "d", 1.0), ("y", "c", 5.0)]
    assert [item for user, item, _ in lists(rows) if user == "z"] == ["c", "a", "b"]


def test_an_item_counts_so_many_neighbours_and_ties_go_by_id() -> None:
    rows = [("u", "a", 5.0), *((user, item, 5.0) for user in "vw" for item in "abc")]
    assert [row[1] for row in lists(rows, neighbours=1) if row[0] == "u"] == ["b", "c"]
    assert len(lists(rows, length=1)) == 1


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("uvwxyz"), st.sampled_from("abcdefg"), st.sampled_from([1.0, 4.0, 5.0]))))
def test_lists_are_sorted_new_to_their_user_and_the_same_in_any_order(rows: list[tuple[str, str, float]]) -> None:
    table = candidate_lists(interactions(rows), RetrieverConfig(length=3))
    assert table.equals(candidate_lists(interactions(rows[::-1]), RetrieverConfig(length=3)))
    assert dict(table.schema) == schemas.CANDIDATES
    assert table.equals(table.sort("user_id", "candidate_rank"))
    assert not {(user, item) for user, item, _ in rows} & set(table.select("user_id", "item_id").rows())
    assert not table.filter(pl.col("candidate_score").diff().over("user_id") > 0).height


@pytest.mark.skipif(HAS_IMPLICIT, reason="implicit is installed")
def test_a_method_that_needs_a_library_says_how_to_install_it() -> None:
    with pytest.raises(
        ConfigError, match=r"method als needs implicit.*pip install 'personarank-dagster\[retriever\]'"
    ):
        lists(LIKED, method="als")


@pytest.mark.skipif(not HAS_IMPLICIT, reason="implicit is not installed")
def test_factors_give_the_same_lists_twice() -> None:
    assert lists(LIKED, method="als", factors=2) == lists(LIKED, method="als", factors=2)
