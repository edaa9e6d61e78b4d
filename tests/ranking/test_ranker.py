import os

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from personarank_dagster.core import schemas
from personarank_dagster.ranking.ranker import (
    Ranker,
    VectorTable,
    blocks,
    coverage,
    min_spread,
    rerank,
    usable_cores,
)

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


def naive(candidates: pl.DataFrame, interactions: VectorTable, personas: VectorTable, alpha: float) -> list[dict]:
    """Rerank one user after the other, as the definition reads."""
    rows = []
    for (user,), found in candidates.group_by("user_id", maintain_order=True):
        own = interactions.index.filter((pl.col("user_id") == user) & (pl.col("age") < K))
        parts = [
            GAMMA**age * interactions.vectors[row].astype(np.float32) for age, row in own["age", "vector_row"].rows()
        ]
        profile = sum(parts) / (np.linalg.norm(sum(parts)) or 1)
        listed = []
        for item, candidate_score in found["item_id", "candidate_score"].rows():
            of_item = personas.index.filter(item_id=item) if parts else personas.index.clear()
            cosines = [float(profile @ personas.vectors[row].astype(np.float32)) for row in of_item["vector_row"]]
            best = int(np.argmax(cosines)) if cosines else None
            persona = None if best is None else of_item["unique_persona_id"][best]
            listed.append((item, candidate_score, None if best is None else cosines[best], persona))
        by_retriever, by_persona = minmax([row[1] for row in listed]), minmax([row[2] for row in listed])
        known = [row[2] for row in listed if row[2] is not None]
        if max(known, default=0) - min(known, default=0) < min_spread():
            by_persona = [None] * len(listed)
        for row, c, p in zip(listed, by_retriever, by_persona, strict=True):
            rows.append({"user": user, "item": row[0], "persona": row[3], "persona_score": row[2]})
            rows[-1]["score"] = c if p is None else alpha * p + (1 - alpha) * c
    return rows


def minmax(values: list[float | None]) -> list[float | None]:
    known = [value for value in values if value is not None]
    low, high = min(known, default=0), max(known, default=0)
    return [v if v is None else (v - low) / (high - low) if high > low else 0.5 for v in values]


@st.composite
def problems(draw: st.DrawFn):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    items = [f"i{n}" for n in range(draw(st.sampled_from([1, 2, 12, 2000])))]
    personas = make_personas(rng, {item: draw(st.integers(0, 4)) for item in items[:12]})
    lengths = {f"u{n}": draw(st.integers(0, 5)) for n in range(draw(st.integers(1, 5)))}
    lists = {}
    for user in lengths:
        chosen = items if draw(st.integers(0, 20)) == 0 else items[: draw(st.integers(1, 12))]
        scores = sorted((draw(st.integers(0, 3)) / 2 for _ in range(3)), reverse=True)
        lists[user] = [(item, scores[i * 3 // len(chosen)]) for i, item in enumerate(rng.permutation(chosen))]
    return make_candidates(lists), make_interactions(rng, lengths), personas, draw(st.sampled_from([0.0, 0.3, 1.0]))


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(problems())
def test_reranking_equals_the_naive_version(problem) -> None:
    candidates, interactions, personas, alpha = problem
    reranked = rerank(candidates, interactions, personas, k=K, gamma=GAMMA, alpha=alpha)
    assert dict(reranked.schema) == schemas.RERANKED
    got = reranked.sort(pl.col("user_id").rle_id(), "candidate_rank")
    expected = naive(candidates, interactions, personas, alpha)
    assert got["item_id"].to_list() == [row["item"] for row in expected]
    for column in ("score", "persona_score"):
        assert got[column].to_list() == [pytest.approx(row[column], abs=1e-5) for row in expected]
    assert got["unique_persona_id"].to_list() == [row["persona"] for row in expected]
    # The order is that of the scores, ties in candidate order.
    by_score = got.sort(pl.col("user_id").rle_id(), -pl.col("score"), "candidate_rank")
    assert by_score["item_id"].to_list() == reranked["item_id"].to_list()


def test_equal_personas_give_the_first_of_them() -> None:
    rng = np.random.default_rng(0)
    personas = make_personas(rng, {"a": 4})
    same = VectorTable(personas.vectors, personas.index.with_columns(vector_row=pl.lit(2, dtype=pl.UInt32)))
    reranked = rerank(
        make_candidates({"u": [("a", 1.0)]}), make_interactions(rng, {"u": 3}), same, k=K, gamma=GAMMA, alpha=1
    )
    assert reranked["unique_persona_id"].to_list() == ["a_P0"]


def test_contributions_of_all_interactions_sum_to_the_persona_score_largest_first() -> None:
    rng = np.random.default_rng(0)
    near = abs(rng.normal(size=(8, 5))) + 0.1
    vectors = (near / np.linalg.norm(near, axis=1, keepdims=True)).astype(np.float16)
    interactions = VectorTable(vectors[:5], make_interactions(rng, {"u": 5}).index)
    personas = VectorTable(vectors[5:], make_personas(rng, {"a": 3}).index)
    row = rerank(make_candidates({"u": [("a", 1.0)]}), interactions, personas, k=K, gamma=GAMMA, alpha=1).row(
        0, named=True
    )
    parts = [part["contribution"] for part in row["interactions"]]
    assert len(parts) == K
    assert parts == sorted(parts, reverse=True)
    assert sum(parts) == pytest.approx(row["persona_score"], abs=1e-5)


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
def test_blocks_hold_whole_lists_in_order(size: int) -> None:
    candidates = make_candidates({f"u{n}": [("a", 1.0)] * (n % 4 + 1) for n in range(9)})
    parts = list(blocks(candidates, size))
    assert pl.concat(parts).equals(candidates)
    users = [user for part in parts for user in part["user_id"].unique()]
    assert len(users) == len(set(users)) == 9


def test_exchanged_profiles_are_those_of_other_users() -> None:
    rng = np.random.default_rng(0)
    ranker = Ranker.of(
        make_interactions(rng, {f"u{n}": n + 1 for n in range(7)}), make_personas(rng, {}), k=9, gamma=1.0
    )
    exchanged = ranker.with_exchanged_profiles(seed=3)
    assert exchanged.users["user_id"].equals(ranker.users["user_id"])
    assert not (exchanged.users["start"] == ranker.users["start"]).any()
    assert sorted(exchanged.users["start"]) == sorted(ranker.users["start"])


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


def test_one_scored_candidate_is_not_moved_by_its_score() -> None:
    rng = np.random.default_rng(0)
    candidates = make_candidates({"u": [("a", 3.0), ("b", 2.0), ("c", 1.0)]})
    reranked = rerank(
        candidates, make_interactions(rng, {"u": 2}), make_personas(rng, {"c": 2}), k=K, gamma=GAMMA, alpha=0.9
    )
    assert reranked["item_id"].to_list() == ["a", "b", "c"]
    assert reranked["persona_score"].null_count() == 2


def test_a_user_whose_persona_scores_are_alike_keeps_the_candidate_order_and_is_counted() -> None:
    interactions = VectorTable(np.array([[1, 0]]), make_interactions(np.random.default_rng(0), {"u": 1}).index)
    almost = VectorTable(
        np.array([[0.5, 0.5], [0.501, 0.5]]), make_personas(np.random.default_rng(0), {"a": 1, "b": 1}).index
    )
    candidates = make_candidates({"u": [("a", 2.0), ("b", 1.0)]})
    reranked = rerank(candidates, interactions, almost, k=K, gamma=GAMMA, alpha=1)
    assert reranked["item_id"].to_list() == ["a", "b"]
    counts = coverage(reranked)
    assert (counts["users_whose_persona_scores_are_alike"], counts["users_without_persona_scores"]) == (1, 0)


def test_cores_are_those_of_the_process_and_no_more_than_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2})
    for asked, cores in ((None, 3), ("2", 2), ("9", 3), ("0", 1), ("4,2", 3)):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        if asked is not None:
            monkeypatch.setenv("OMP_NUM_THREADS", asked)
        assert usable_cores() == cores
