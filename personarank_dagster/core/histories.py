"""Which interactions speak for a user: liked ones, before a point in time, the last k."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from personarank_dagster.core.errors import InputError, listed_by_name
from personarank_dagster.core.profiles import Windows


def liked_interactions(histories: pl.DataFrame, *, min_rating: float) -> pl.DataFrame:
    """Interactions rated at least `min_rating`, by user and then oldest first; `age` 0 is a user's newest."""
    return (
        histories.filter(pl.col("rating") >= min_rating)
        .sort("user_id", "position")
        .with_columns(age=pl.int_range(pl.len(), dtype=pl.UInt32).reverse().over("user_id"))
    )


@dataclass(frozen=True)
class TrainingPairs:
    """Positive pairs: the window of a user's interactions before the target, and the persona selected for it.

    `frame` has user_id, target_item_id, unique_persona_id, which is null where none was selected; row i belongs to
    window i. `left_out` counts targets that cannot be trained on, by reason.
    """

    frame: pl.DataFrame
    windows: Windows
    left_out: dict[str, int]


def liked_targets(liked: pl.DataFrame, selections: pl.DataFrame, items: pl.Series) -> pl.DataFrame:
    """Every liked interaction of an item with personas as a target, in the form of selections.

    A target that a persona was selected for has it; an item that a user liked twice is one target.
    """
    chosen = selections.filter("resolved").unique(["user_id", "target_item_id"], keep="first", maintain_order=True)
    return (
        liked.select("user_id", target_item_id="item_id")
        .unique(maintain_order=True)
        .filter(pl.col("target_item_id").is_in(items.implode()))
        .join(
            chosen.select("user_id", "target_item_id", "unique_persona_id"),
            on=["user_id", "target_item_id"],
            how="left",
            maintain_order="left",
        )
        .with_columns(resolved=True)
    )


def training_pairs(
    selections: pl.DataFrame, histories: pl.DataFrame, liked: pl.DataFrame, *, k: int
) -> TrainingPairs:
    """Pair each selection of a liked target with the last k liked interactions strictly before that.

    A target that was reviewed twice is liked if one of the reviews says so, and counts from the first one, so nothing
    later can leak. Raises InputError if no pair is left.
    """
    resolved = selections.filter("resolved")
    placed = _with_target_position(resolved, histories)
    item = ["user_id", "item_id"]
    positive = placed.join(liked, left_on=["user_id", "target_item_id"], right_on=item, how="semi")
    rows = liked.with_row_index("row").select("user_id", "position", "row").sort("position")
    last = positive.sort("target_position", maintain_order=True).join_asof(
        rows,
        left_on="target_position",
        right_on="position",
        by="user_id",
        strategy="backward",
        allow_exact_matches=False,
        check_sortedness=False,
    )
    first = rows.group_by("user_id").agg(first=pl.col("row").min())
    pairs = last.filter(pl.col("row").is_not_null()).join(first, on="user_id", how="left").sort("selection")
    left_out = {
        "the persona is not in the catalogue": selections.height - resolved.height,
        "target not in the user's history": resolved.height - placed.height,
        "target rated below min_rating": placed.height - positive.height,
        "no liked interaction before the target": positive.height - pairs.height,
    }
    if not pairs.height:
        why = listed_by_name(left_out)
        raise InputError(f"training pairs: no target can be trained on, of {selections.height}: {why}")
    return TrainingPairs(
        frame=pairs.select("user_id", "target_item_id", "unique_persona_id"),
        windows=_last_k(pairs["first"].to_numpy(), pairs["row"].to_numpy() + 1, k),
        left_out=left_out,
    )


def _with_target_position(selections: pl.DataFrame, histories: pl.DataFrame) -> pl.DataFrame:
    first_review = histories.group_by("user_id", "item_id").agg(target_position=pl.col("position").min())
    return selections.with_row_index("selection").join(
        first_review, left_on=["user_id", "target_item_id"], right_on=["user_id", "item_id"], how="inner"
    )


def _last_k(first: np.ndarray, end: np.ndarray, k: int) -> Windows:
    ends = end.astype(np.int64)
    return Windows(starts=np.maximum(first.astype(np.int64), ends - k), ends=ends)
