"""Recall, precision and MAP of ranked lists: metrics that count every ground-truth item of a user, not the best."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

Values = npt.NDArray[np.float64]
# (users,) values of each metric and order, by "RECALL@10" and "candidate" or "reranked".
ValuesByOrder = dict[str, dict[str, Values]]

SET_METRIC_NAMES = ("RECALL", "PRECISION", "MAP")
ORDERS = {"candidate": "candidate_rank", "reranked": "rank"}


def set_metrics(
    reranked: pl.DataFrame | pl.LazyFrame, ground_truth: pl.DataFrame, users: pl.Series, ks: Sequence[int]
) -> ValuesByOrder:
    """Values of each user, in the order of `users`.

    With n ground-truth items and h of them among the first k: recall h / n, precision h / k; MAP the sum over these
    h of (place among them / place in the list), divided by min(n, k).
    """
    truth = ground_truth.unique()
    hits = (
        reranked.lazy()
        .join(truth.lazy(), on=["user_id", "item_id"], how="semi")
        .select("user_id", *ORDERS.values())
        .collect(engine="streaming")
    )
    sizes = users.to_frame("user_id").join(
        truth.group_by("user_id").len("size"), on="user_id", how="left", maintain_order="left"
    )
    found: ValuesByOrder = {}
    for order, column in ORDERS.items():
        placed = hits.select("user_id", place=column).sort("user_id", "place")
        placed = placed.with_columns(among=pl.int_range(1, pl.len() + 1).over("user_id"))
        for k in ks:
            counted = _counted(placed, sizes, k)
            size = sizes["size"].to_numpy()
            values = counted["hits"] / size, counted["hits"] / k, counted["gains"] / np.minimum(size, k)
            for name, of_users in zip(SET_METRIC_NAMES, values, strict=True):
                found.setdefault(f"{name}@{k}", {})[order] = of_users
    return found


def _counted(placed: pl.DataFrame, sizes: pl.DataFrame, k: int) -> dict[str, Values]:
    """Hits among the first k of each user, and the sum of their precisions."""
    first = placed.filter(pl.col("place") <= k).group_by("user_id")
    counted = first.agg(hits=pl.len(), gains=(pl.col("among") / pl.col("place")).sum())
    joined = sizes.join(counted, on="user_id", how="left", maintain_order="left")
    return {name: joined[name].fill_null(0).cast(pl.Float64).to_numpy() for name in ("hits", "gains")}
