"""Reranking: a plain loop over users against `core.ranking.rerank`, on the same vectors in the same run."""

import statistics
import time

import numpy as np
import polars as pl

from personarank_dagster.core import schemas
from personarank_dagster.core.profiles import unit_rows
from personarank_dagster.core.ranking import VectorTable, rerank

USERS, LOOP_USERS, ITEMS, CANDIDATES, PERSONAS, INTERACTIONS, DIMENSION = 20_000, 500, 20_000, 20, 5, 10, 384
GAMMA, ALPHA, ROUNDS = 0.65, 0.5, 3


def main() -> None:
    rng = np.random.default_rng(0)
    interactions = _vectors(rng, USERS, INTERACTIONS, "user_id", age=True)
    personas = _vectors(rng, ITEMS, PERSONAS, "item_id", age=False)
    items = np.stack([rng.choice(ITEMS, CANDIDATES, replace=False) for _ in range(USERS)])
    scores = -np.sort(-rng.random((USERS, CANDIDATES)), axis=1)
    candidates = pl.DataFrame(
        {
            "user_id": np.repeat(_names(USERS), CANDIDATES),
            "candidate_rank": np.tile(np.arange(1, CANDIDATES + 1), USERS),
            "item_id": _names(ITEMS)[items.ravel()],
            "candidate_score": scores.ravel(),
        },
        schema=schemas.CANDIDATES,
    )
    ratios = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        expected = _loop(interactions.vectors, personas.vectors, items[:LOOP_USERS], scores[:LOOP_USERS])
        loop = (time.perf_counter() - started) / LOOP_USERS
        started = time.perf_counter()
        reranked = rerank(candidates, interactions, personas, k=INTERACTIONS, gamma=GAMMA, alpha=ALPHA)
        ours = (time.perf_counter() - started) / USERS
        ratios.append(loop / ours)
    same = reranked["item_id"].head(LOOP_USERS * CANDIDATES).to_list() == list(_names(ITEMS)[expected.ravel()])
    print(
        f"{USERS:,} users x {CANDIDATES} candidates x {PERSONAS} personas, {DIMENSION} dimensions; same order: {same}"
    )
    print(f"loop {loop * 1e6:.0f} us a user, ours {ours * 1e6:.0f} us: {statistics.median(ratios):.1f} times")


def _vectors(rng: np.random.Generator, groups: int, each: int, name: str, *, age: bool) -> VectorTable:
    index = {name: np.repeat(_names(groups), each), "vector_row": np.arange(groups * each)}
    extra = {"age": np.tile(np.arange(each)[::-1], groups)} if age else {"unique_persona_id": _names(groups * each)}
    vectors = unit_rows(rng.normal(size=(groups * each, DIMENSION)).astype(np.float32)).astype(np.float16)
    return VectorTable(vectors, pl.DataFrame(index | extra))


def _names(count: int) -> np.ndarray:
    return np.array([f"{number:08d}" for number in range(count)])


def _loop(interactions: np.ndarray, personas: np.ndarray, items: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The plain way: one user, one candidate after the other."""
    weights = GAMMA ** np.arange(INTERACTIONS)[::-1]
    lists = []
    for user, own in enumerate(items):
        vectors = interactions[user * INTERACTIONS : (user + 1) * INTERACTIONS].astype(np.float32)
        profile = (weights[:, None] * vectors).sum(axis=0)
        profile /= np.linalg.norm(profile)
        best = [
            max(float(profile @ row.astype(np.float32)) for row in personas[item * PERSONAS : (item + 1) * PERSONAS])
            for item in own
        ]
        blended = [
            ALPHA * (persona - min(best)) / (max(best) - min(best))
            + (1 - ALPHA) * (score - min(scores[user])) / (max(scores[user]) - min(scores[user]))
            for persona, score in zip(best, scores[user], strict=True)
        ]
        lists.append(own[sorted(range(CANDIDATES), key=lambda place: -blended[place])])
    return np.stack(lists)
