"""Reranking: the best persona of every candidate, the blend with the retriever's score, the new order."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from personarank_dagster.core import schemas
from personarank_dagster.core.profiles import BLOCK_ROWS, FloatArray, IntArray, Windows, profiles


@dataclass(frozen=True)
class VectorTable:
    """Vectors (rows, dimension) and the table that says what each is; `index.vector_row` points into `vectors`."""

    vectors: npt.NDArray[np.floating]
    index: pl.DataFrame

    @property
    def vector_rows(self) -> IntArray:
        """Row of `vectors` for each row of the index."""
        return self.index["vector_row"].to_numpy().astype(np.int64)


def user_profiles(interactions: VectorTable, *, k: int, gamma: float) -> tuple[pl.Series, FloatArray]:
    """Users with a liked interaction and their profiles (users, dimension)."""
    recent = interactions.index.with_row_index("row").filter(pl.col("age") < k)
    users = recent.group_by("user_id", maintain_order=True).agg(
        start=pl.col("row").min(), end=pl.col("row").max() + 1
    )
    windows = Windows(users["start"].to_numpy().astype(np.int64), users["end"].to_numpy().astype(np.int64))
    return users["user_id"], profiles(interactions.vectors, interactions.vector_rows, windows, gamma=gamma)


def rerank(
    candidates: pl.DataFrame,
    interactions: VectorTable,
    personas: VectorTable,
    *,
    k: int,
    gamma: float,
    alpha: float,
) -> pl.DataFrame:
    """Reorder every candidate list; columns of `schemas.RERANKED`, best first, users in their given order.

    score = alpha * minmax(persona score) + (1 - alpha) * minmax(candidate score), min and max over the user's
    list; ties keep the candidate order. Without a persona score (no profile, or no personas) the score is the
    min-max candidate score alone.
    """
    scored = with_persona_scores(candidates, interactions, personas, k=k, gamma=gamma)
    return order(scored.with_columns(score=blend(alpha)))


def with_persona_scores(
    candidates: pl.DataFrame, interactions: VectorTable, personas: VectorTable, *, k: int, gamma: float
) -> pl.DataFrame:
    """Add `persona_score` and the `unique_persona_id` that reached it; null where there is none."""
    users, user_vectors = user_profiles(interactions, k=k, gamma=gamma)
    located = _locate(candidates, users, personas.index)
    known = located.filter(pl.all_horizontal(pl.col("profile", "start").is_not_null()))
    scores, persona_rows = best_personas(
        user_vectors,
        known["profile"].to_numpy().astype(np.int64),
        personas,
        Windows(known["start"].to_numpy().astype(np.int64), known["end"].to_numpy().astype(np.int64)),
    )
    found = known.select(
        "pair",
        persona_score=pl.Series(scores, dtype=pl.Float64),
        unique_persona_id=personas.index["unique_persona_id"].gather(persona_rows),
    )
    return located.join(found, on="pair", how="left", maintain_order="left").drop("pair", "profile", "start", "end")


def best_personas(
    user_vectors: FloatArray, profile_of_pair: IntArray, personas: VectorTable, windows: Windows
) -> tuple[FloatArray, IntArray]:
    """For each (user, item) pair the highest cosine over the item's personas, and its row in the persona index.

    `windows[i]` are the personas of pair i. The first of equal personas wins.
    """
    matrix = np.asarray(personas.vectors, dtype=np.float32)
    vector_rows = personas.vector_rows
    scores = np.empty(len(windows), dtype=np.float32)
    best_rows = np.empty(len(windows), dtype=np.int64)
    step = BLOCK_ROWS // max(1, int((windows.ends - windows.starts).max(initial=1)))
    for begin in range(0, len(windows), max(1, step)):
        part = slice(begin, begin + max(1, step))
        rows, pair_of_row = windows[part].flatten()
        cosines = np.einsum("ij,ij->i", user_vectors[profile_of_pair[part]][pair_of_row], matrix[vector_rows[rows]])
        scores[part], best_rows[part] = _segment_max(cosines, rows, pair_of_row)
    return scores, best_rows


def blend(alpha: float) -> pl.Expr:
    """The final score; see `rerank`."""
    candidate = _minmax("candidate_score")
    persona = _minmax("persona_score")
    return pl.when(persona.is_null()).then(candidate).otherwise(alpha * persona + (1 - alpha) * candidate)


def order(scored: pl.DataFrame) -> pl.DataFrame:
    """Sort each user's list by score, ties by candidate rank, and number the places from 1."""
    return (
        scored.with_row_index("row")
        .sort(pl.col("row").min().over("user_id"), -pl.col("score"), "candidate_rank")
        .with_columns(rank=pl.int_range(1, pl.len() + 1, dtype=pl.UInt32).over("user_id"))
        .select(schemas.RERANKED.keys())
    )


def coverage(reranked: pl.DataFrame) -> dict[str, int]:
    """Count users, candidates, and those that kept the candidate score alone."""
    by_user = reranked.group_by("user_id").agg(scored=pl.col("persona_score").count(), moved=_moved().any())
    return {
        "users": by_user.height,
        "users_with_a_new_order": by_user.filter("moved").height,
        "users_without_persona_scores": by_user.filter(pl.col("scored") == 0).height,
        "candidates": reranked.height,
        "candidates_without_persona_score": reranked["persona_score"].null_count(),
    }


def _moved() -> pl.Expr:
    return pl.col("rank") != pl.col("candidate_rank")


def _locate(candidates: pl.DataFrame, users: pl.Series, persona_index: pl.DataFrame) -> pl.DataFrame:
    """Add to each pair the row of its user's profile and the slice of its item's personas, null where absent."""
    profile_rows = pl.DataFrame({"user_id": users}).with_row_index("profile")
    slices = (
        persona_index.with_row_index("row")
        .group_by("item_id")
        .agg(start=pl.col("row").min(), end=pl.col("row").max() + 1)
    )
    return (
        candidates.with_row_index("pair")
        .join(profile_rows, on="user_id", how="left", maintain_order="left")
        .join(slices, on="item_id", how="left", maintain_order="left")
    )


def _segment_max(values: FloatArray, rows: IntArray, segment_of_value: IntArray) -> tuple[FloatArray, IntArray]:
    """Maximum of each segment and the row where it first occurs. Segments are sorted and none is empty."""
    firsts = np.flatnonzero(np.diff(segment_of_value, prepend=-1))
    maxima = np.maximum.reduceat(values, firsts)
    hits = np.flatnonzero(values == maxima[segment_of_value])
    first_hits = hits[np.flatnonzero(np.diff(segment_of_value[hits], prepend=-1))]
    return maxima, rows[first_hits]


def _minmax(column: str) -> pl.Expr:
    """Values scaled to [0, 1] over the user's list; a constant list is 0.5 throughout, which moves nothing."""
    value = pl.col(column)
    low, high = value.min().over("user_id"), value.max().over("user_id")
    return pl.when(high > low).then((value - low) / (high - low)).when(value.is_not_null()).then(0.5)
