"""HIT, MRR and NDCG of ranked lists, for all users and for the scenarios."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from personarank_dagster.core import schemas
from personarank_dagster.core.errors import InputError

METRIC_NAMES = ("HIT", "MRR", "NDCG")

# Users by activity and ground-truth items by popularity: the top and bottom fifth, thresholds included.
TOP_QUANTILE, BOTTOM_QUANTILE = 0.8, 0.2


@dataclass(frozen=True)
class Coverage:
    """Users that count, and those that cannot be measured, by reason."""

    users: int
    users_without_candidates: int
    users_without_ground_truth: int
    ground_truth_in_list: int


def hit_ranks(reranked: pl.DataFrame, ground_truth: pl.DataFrame) -> pl.DataFrame:
    """Places of the best ground-truth item: user_id, candidate, reranked (from 1, null where it is not listed).

    One row per user that has both a candidate list and a ground truth, in the order of the lists. Raises InputError
    if there is none.
    """
    hits = (
        reranked.join(ground_truth.unique(), on=["user_id", "item_id"], how="semi")
        .group_by("user_id")
        .agg(candidate=pl.col("candidate_rank").min(), reranked=pl.col("rank").min())
    )
    users = reranked.select("user_id").unique(maintain_order=True).join(ground_truth, on="user_id", how="semi")
    if users.is_empty():
        raise InputError(
            f"no user has both a candidate list and a ground truth, of {_users(reranked)} with a list and "
            f"{_users(ground_truth)} with a ground truth; do both files name users in the same way?"
        )
    return users.join(hits, on="user_id", how="left", maintain_order="left")


def _users(table: pl.DataFrame) -> int:
    return table["user_id"].n_unique()


def coverage(reranked: pl.DataFrame, ground_truth: pl.DataFrame, ranks: pl.DataFrame) -> Coverage:
    """Count the users behind `hit_ranks` and those that it left out."""
    return Coverage(
        users=ranks.height,
        users_without_candidates=ground_truth["user_id"].n_unique() - ranks.height,
        users_without_ground_truth=reranked["user_id"].n_unique() - ranks.height,
        ground_truth_in_list=ranks["reranked"].count(),
    )


def metrics_at(ranks: pl.Series, ks: Sequence[int]) -> dict[str, float]:
    """HIT@k, MRR@k and NDCG@k, averaged over users.

    The first ground-truth item at place r <= k gives HIT 1, MRR 1 / r and NDCG 1 / log2(r + 1); else 0.
    `ranks` holds r, null where it is not listed. Without users every metric is NaN.
    """
    places = ranks.cast(pl.Float64).fill_null(np.inf).to_numpy()
    gains = {"HIT": np.ones_like(places), "MRR": 1 / places, "NDCG": 1 / np.log2(places + 1)}
    return {f"{name}@{k}": _mean(np.where(places <= k, gains[name], 0.0)) for k in ks for name in METRIC_NAMES}


def compare(ranks: pl.DataFrame, ks: Sequence[int], *, scenario: str) -> pl.DataFrame:
    """Candidate order against reranked order; columns of `schemas.METRICS`.

    lift = reranked / candidate - 1, null where the candidate order scores 0.
    """
    candidate, reranked = metrics_at(ranks["candidate"], ks), metrics_at(ranks["reranked"], ks)
    return pl.DataFrame(
        {
            "scenario": [scenario] * len(candidate),
            "users": [ranks.height] * len(candidate),
            "metric": [key.split("@")[0] for key in candidate],
            "k": [int(key.split("@")[1]) for key in candidate],
            "candidate": list(candidate.values()),
            "reranked": list(reranked.values()),
            "lift": [_lift(candidate[key], reranked[key]) for key in candidate],
        },
        schema=schemas.METRICS,
    )


def compare_scenarios(ranks: pl.DataFrame, scenarios: dict[str, pl.Series], ks: Sequence[int]) -> pl.DataFrame:
    """`compare` for all users and for each scenario."""
    parts = {"all": ranks} | {
        name: ranks.filter(pl.col("user_id").is_in(users.to_list())) for name, users in scenarios.items()
    }
    return pl.concat([compare(rows, ks, scenario=name) for name, rows in parts.items()])


def scenario_users(interactions: pl.DataFrame, ground_truth: pl.DataFrame) -> dict[str, pl.Series]:
    """Users of each scenario: warm and cold by their number of interactions, head and tail by their item's.

    Thresholds are the 80th and 20th percentile over all users or items of `interactions`, both inclusive.
    A user with several ground-truth items belongs where the first one does.
    """
    activity = interactions.group_by("user_id").len("count")
    popularity = interactions.group_by("item_id").len("count")
    targets = ground_truth.unique("user_id", keep="first", maintain_order=True)
    return {
        "warm users": _top(activity)["user_id"],
        "cold users": _bottom(activity)["user_id"],
        "head items": targets.join(_top(popularity), on="item_id", how="semi")["user_id"],
        "tail items": targets.join(_bottom(popularity), on="item_id", how="semi")["user_id"],
    }


def _top(counts: pl.DataFrame) -> pl.DataFrame:
    return counts.filter(pl.col("count") >= pl.col("count").quantile(TOP_QUANTILE, "linear"))


def _bottom(counts: pl.DataFrame) -> pl.DataFrame:
    return counts.filter(pl.col("count") <= pl.col("count").quantile(BOTTOM_QUANTILE, "linear"))


def _lift(candidate: float, reranked: float) -> float | None:
    return reranked / candidate - 1 if candidate > 0 else None


def _mean(values: npt.NDArray[np.float64]) -> float:
    return float(values.mean()) if values.size else float("nan")
