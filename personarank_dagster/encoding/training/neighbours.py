"""Items that a retriever would offer to a user: neighbours by co-occurrence in the histories."""

import numpy as np
import polars as pl

from personarank_dagster.core.histories import TrainingPairs
from personarank_dagster.core.profiles import IntArray

# Nearest items kept of each item: more would make the sums of large catalogues long, and change little.
NEIGHBOURS_PER_ITEM = 200
PAIRS_AT_ONCE = 20_000


def neighbours(pairs: TrainingPairs, liked: pl.DataFrame, items: pl.Series, *, count: int) -> IntArray:
    """For each pair the numbers of the `count` items nearest to its profile window, nearest first; -1 fills up.

    Nearness is the sum over the window of the cosine of two items' sets of users; an item's number is its place
    among the sorted distinct `items`. What the user interacted with at any time is left out, so is the target.
    Only liked interactions count, and they hold no ground truth.
    """
    numbers = items.unique().sort().to_frame("item_id").with_row_index("item")
    seen = liked.select("user_id", "item_id").unique().join(numbers, on="item_id")
    similar = _similar_items(seen)
    result = np.full((pairs.frame.height, count), -1, dtype=np.int64)
    for begin in range(0, pairs.frame.height, PAIRS_AT_ONCE):
        block = slice(begin, begin + PAIRS_AT_ONCE)
        rows, pair_of_row = pairs.windows[block].flatten()
        window_items = liked["item_id"].gather(rows).to_frame().with_columns(pair=pl.Series(pair_of_row + begin))
        best = _nearest(window_items.join(numbers, on="item_id"), similar, pairs.frame, seen, count)
        result[best["pair"].to_numpy(), best["place"].to_numpy()] = best["other"].to_numpy()
    return result


def _similar_items(seen: pl.DataFrame) -> pl.DataFrame:
    """Item, other, cosine: the nearest others of each item."""
    users = seen.group_by("item").agg(users=pl.len())
    together = (
        seen.select("user_id", "item")
        .join(seen.select("user_id", other="item"), on="user_id")
        .filter(pl.col("item") != pl.col("other"))
        .group_by("item", "other")
        .agg(both=pl.len())
    )
    return (
        together.join(users, on="item")
        .join(users.rename({"item": "other", "users": "other_users"}), on="other")
        .with_columns(cosine=pl.col("both") / (pl.col("users") * pl.col("other_users")).sqrt())
        .sort("item", -pl.col("cosine"), "other")
        .filter(pl.int_range(pl.len()).over("item") < NEIGHBOURS_PER_ITEM)
        .select("item", "other", "cosine")
    )


def _nearest(
    window_items: pl.DataFrame, similar: pl.DataFrame, pairs: pl.DataFrame, seen: pl.DataFrame, count: int
) -> pl.DataFrame:
    """Pair, place, other: the nearest unseen items of each pair's window."""
    users = pairs.select("user_id", "target_item_id").with_row_index("pair")
    targets = users.select(pl.col("pair").cast(pl.Int64), item_id="target_item_id")
    own = users.join(seen, on="user_id").select(pl.col("pair").cast(pl.Int64), other="item", item_id="item_id")
    return (
        window_items.join(similar, on="item")
        .group_by("pair", "other")
        .agg(near=pl.col("cosine").sum())
        .join(own, on=["pair", "other"], how="anti")
        .join(_numbered(targets, seen), on=["pair", "other"], how="anti")
        .sort("pair", -pl.col("near").round(6), "other")
        .with_columns(place=pl.int_range(pl.len()).over("pair"))
        .filter(pl.col("place") < count)
    )


def _numbered(targets: pl.DataFrame, seen: pl.DataFrame) -> pl.DataFrame:
    return targets.join(seen.select("item_id", other="item").unique(), on="item_id").select("pair", "other")
