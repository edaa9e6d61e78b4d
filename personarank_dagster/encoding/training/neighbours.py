"""Items that a retriever would offer to a user: neighbours by co-occurrence in the histories."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from personarank_dagster.core.histories import TrainingPairs
from personarank_dagster.core.profiles import FloatArray, IntArray

# Nearest items kept of each item: more would make the sums of large catalogues long, and change little.
NEIGHBOURS_PER_ITEM = 200
PAIRS_AT_ONCE = 20_000


@dataclass(frozen=True)
class Neighbourhood:
    """What a retriever would offer to the user of each pair.

    `items` (pairs, count) are numbers of items, nearest first, -1 where there are no more; `nearness` (pairs, count +
    1) is that of each, 0 of none, and in the last column that of the target, as if its user had not met it.
    """

    items: IntArray
    nearness: FloatArray


def neighbours(pairs: TrainingPairs, liked: pl.DataFrame, items: pl.Series, *, count: int) -> Neighbourhood:
    """The `count` items nearest to the profile window of each pair.

    Nearness is the sum over the window of the cosine of two items' sets of users; an item's number is its place
    among the sorted distinct `items`. What the user interacted with at any time is left out, so is the target.
    Only liked interactions count, and they hold no ground truth.
    """
    numbers = items.unique().sort().to_frame("item_id").with_row_index("item")
    seen = liked.select("user_id", "item_id").unique().join(numbers, on="item_id")
    together, users = _together(seen), seen.group_by("item").agg(users=pl.len())
    similar = _similar_items(together, users)
    result = np.full((pairs.frame.height, count), -1, dtype=np.int64)
    nearness = np.zeros((pairs.frame.height, count + 1), dtype=np.float32)
    for begin in range(0, pairs.frame.height, PAIRS_AT_ONCE):
        block = slice(begin, begin + PAIRS_AT_ONCE)
        rows, pair_of_row = pairs.windows[block].flatten()
        window_items = liked["item_id"].gather(rows).to_frame().with_columns(pair=pl.Series(pair_of_row + begin))
        window = window_items.join(numbers, on="item_id")
        best = _nearest(window, similar, pairs.frame, seen, count)
        result[best["pair"].to_numpy(), best["place"].to_numpy()] = best["other"].to_numpy()
        nearness[best["pair"].to_numpy(), best["place"].to_numpy()] = best["near"].to_numpy()
        targets = _numbered(_targets(pairs.frame), seen).rename({"other": "target"})
        own = _of_targets(window.join(targets, on="pair"), together, users)
        nearness[own["pair"].to_numpy(), count] = own["near"].to_numpy()
    return Neighbourhood(result, nearness)


def _together(seen: pl.DataFrame) -> pl.DataFrame:
    """Item, other, both: how many users met both."""
    return (
        seen.select("user_id", "item")
        .join(seen.select("user_id", other="item"), on="user_id")
        .filter(pl.col("item") != pl.col("other"))
        .group_by("item", "other")
        .agg(both=pl.len())
    )


def _of_targets(window: pl.DataFrame, together: pl.DataFrame, users: pl.DataFrame) -> pl.DataFrame:
    """Pair, near: nearness of the target to its window, by the other users alone."""
    others = pl.col("other_users") - 1
    cosine = (pl.col("both") - 1) / (pl.col("users") * pl.max_horizontal(others, pl.lit(1))).sqrt()
    return (
        window.join(together, left_on=["item", "target"], right_on=["item", "other"])
        .join(users, on="item")
        .join(users.rename({"item": "target", "users": "other_users"}), on="target")
        .group_by("pair", maintain_order=True)
        .agg(near=cosine.sum().round(6))
    )


def _similar_items(together: pl.DataFrame, users: pl.DataFrame) -> pl.DataFrame:
    """Item, other, cosine: the nearest others of each item."""
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
    """Pair, place, other, near: the nearest unseen items of each pair's window."""
    users = pairs.select("user_id", "target_item_id").with_row_index("pair")
    own = users.join(seen, on="user_id").select(pl.col("pair").cast(pl.Int64), other="item", item_id="item_id")
    return (
        window_items.join(similar, on="item")
        .group_by("pair", "other")
        .agg(near=pl.col("cosine").sum().round(6))
        .join(own, on=["pair", "other"], how="anti")
        .join(_numbered(_targets(pairs), seen), on=["pair", "other"], how="anti")
        .sort("pair", -pl.col("near"), "other")
        .with_columns(place=pl.int_range(pl.len()).over("pair"))
        .filter(pl.col("place") < count)
    )


def _targets(pairs: pl.DataFrame) -> pl.DataFrame:
    return pairs.select(item_id="target_item_id").with_columns(pair=pl.int_range(pl.len()))


def _numbered(targets: pl.DataFrame, seen: pl.DataFrame) -> pl.DataFrame:
    return targets.join(seen.select("item_id", other="item").unique(), on="item_id").select("pair", "other")
