import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personarank_dagster.core import schemas
from personarank_dagster.core.ranking import VectorTable, coverage, rerank

K, GAMMA = 3, 0.6


def unit(rng: np.random.Generator, rows: int, dimension: int = 5) -> np.ndarray:
    vectors = rng.normal(size=(rows, dimension))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


def make_interactions(rng: np.random.Generator, lengths: dict[str, int]) -> VectorTable:
    rows = [(user, "x", 5.0, None, length - 1 - i) for user, length in lengths.items() for i in range(length)]
    schema = {name: dtype for name, dtype in schemas.INTERACTION_INDEX.items() if name != "vector_row"}
    index = pl.DataFrame(rows, schema=schema, orient="row")
    return VectorTable(unit(rng, max(1, len(rows))), index.with_row_index("vector_row"))


def make_personas(rng: np.random.Generator, counts: dict[str, int]) -> VectorTable:
    rows = [(item, f"{item}_P{i}") for item, count in counts.items() for i in range(count)]
    index = pl.DataFrame(rows, schema={"item_id": pl.String, "unique_persona_id": pl.String}, orient="row")
    return VectorTable(unit(rng, max(1, len(rows))), index.with_row_index("vector_row"))


def make_candidates(lists: dict[str, list[tuple[str, float]]]) -> pl.DataFrame:
    rows = [(u, i + 1, item, score) for u, found in lists.items() for i, (item, score) in enumerate(found)]
    return pl.DataFrame(rows, schema=schemas.CANDIDATES, orient="row")


def naive(lists, interactions: VectorTable, personas: VectorTable, alpha: float) -> dict[str, list[str]]:
    """Rerank one user after the other, as the definition reads."""
    result = {}
    for user, found in lists.items():
        own = [r for r in interactions.index.iter_rows(named=True) if r["user_id"] == user and r["age"] < K]
        profile = sum(GAMMA ** r["age"] * interactions.vectors[r["vector_row"]].astype(np.float32) for r in own)
        scores = {}
        for item, _ in found:
            of_item = [r for r in personas.index.iter_rows(named=True) if r["item_id"] == item]
            if own and of_item:
                unit_profile = profile / np.linalg.norm(profile)
                scores[item] = max(
                    float(unit_profile @ personas.vectors[r["vector_row"]].astype(np.float32)) for r in of_item
                )

        def scaled(values: dict[str, float]) -> dict[str, float]:
            low, high = min(values.values(), default=0), max(values.values(), default=0)
            return {key: (value - low) / (high - low) if high > low else 0.5 for key, value in values.items()}

        by_retriever, by_persona = scaled(dict(found)), scaled(scores)
        final = {
            item: alpha * by_persona[item] + (1 - alpha) * by_retriever[item]
            if item in by_persona
            else by_retriever[item]
            for item, _ in found
        }
        result[user] = [item for _, item in sorted(enumerate(final), key=lambda pair: (-final[pair[1]], pair[0]))]
    return result


@st.composite
def problems(draw: st.DrawFn):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    items = [f"i{n}" for n in range(draw(st.integers(1, 12)))]
    personas = make_personas(rng, {item: draw(st.integers(0, 4)) for item in items})
    lengths = {f"u{n}": draw(st.integers(0, 5)) for n in range(draw(st.integers(1, 4)))}
    lists = {}
    for user in lengths:
        chosen = draw(st.lists(st.sampled_from(items), min_size=1, unique=True))
        scores = sorted((draw(st.integers(0, 3)) / 2 for _ in chosen), reverse=True)
        lists[user] = list(zip(chosen, scores, strict=True))
    return lists, make_interactions(rng, lengths), personas, draw(st.sampled_from([0.0, 0.3, 1.0]))


@settings(deadline=None, max_examples=150)
@given(problems())
def test_reranking_equals_the_naive_version(problem) -> None:
    lists, interactions, personas, alpha = problem
    reranked = rerank(make_candidates(lists), interactions, personas, k=K, gamma=GAMMA, alpha=alpha)
    assert dict(reranked.schema) == schemas.RERANKED
    got = dict(reranked.group_by("user_id", maintain_order=True).agg("item_id").iter_rows())
    expected = naive(lists, interactions, personas, alpha)
    assert list(got) == list(expected)
    for user in expected:
        assert sorted(got[user]) == sorted(expected[user])
        by_item = dict(reranked.filter(user_id=user).select("item_id", "score").iter_rows())
        # Orders may differ only between scores that rounding cannot tell apart.
        pairs = zip(got[user], expected[user], strict=True)
        assert all(a == b or math.isclose(by_item[a], by_item[b], abs_tol=1e-5) for a, b in pairs)


def one_user(alpha: float) -> pl.DataFrame:
    """A profile along x; `b` matches it best by its second persona, `c` has no personas."""
    interactions = VectorTable(np.array([[1, 0]]), make_interactions(np.random.default_rng(0), {"u": 1}).index)
    index = pl.DataFrame(
        {"item_id": ["a", "b", "b"], "unique_persona_id": ["a_P1", "b_P1", "b_P2"], "vector_row": [0, 1, 2]}
    )
    personas = VectorTable(np.array([[0, 1], [-1, 0], [1, 0]]), index)
    candidates = make_candidates({"u": [("a", 3.0), ("b", 2.0), ("c", 1.0)]})
    return rerank(candidates, interactions, personas, k=K, gamma=GAMMA, alpha=alpha)


def test_the_blend_is_the_weighted_sum_of_the_minmax_scores() -> None:
    rows = one_user(0.6).select("item_id", "score", "persona_score", "unique_persona_id").rows()
    assert rows == [
        ("b", pytest.approx(0.8), 1.0, "b_P2"),
        ("a", pytest.approx(0.4), 0.0, "a_P1"),
        ("c", 0.0, None, None),
    ]


def test_alpha_0_is_the_candidate_order_and_alpha_1_the_persona_order() -> None:
    assert one_user(0.0)["item_id"].to_list() == ["a", "b", "c"]
    assert one_user(1.0)["item_id"].to_list() == ["b", "a", "c"]


def test_a_user_without_a_profile_keeps_the_candidate_order_and_is_counted() -> None:
    rng = np.random.default_rng(0)
    candidates = make_candidates({"new": [("a", 2.0), ("b", 1.0)]})
    reranked = rerank(
        candidates,
        make_interactions(rng, {"u": 2}),
        make_personas(rng, {"a": 1, "b": 1}),
        k=K,
        gamma=GAMMA,
        alpha=0.9,
    )
    assert reranked["item_id"].to_list() == ["a", "b"]
    assert coverage(reranked)["users_without_persona_scores"] == 1
