"""Candidate lists for datasets that have none: items near to those that a user liked, by who else liked them."""

import polars as pl

from personarank_dagster.core import schemas


def candidate_lists(
    reviews: pl.DataFrame, users: pl.Series, *, min_rating: float, neighbours: int, length: int
) -> pl.DataFrame:
    """Lists of `users`, best first, without what they reviewed; the columns of `candidates`.

    A score is the sum of the cosines to the items that the user liked, of which each counts its nearest `neighbours`.
    What a list lacks in `length` are the most liked items, below all others. Ties go by id.
    """
    liked = reviews.filter(pl.col("rating") >= min_rating).select("user_id", "item_id").unique()
    near = _neighbours(liked, neighbours)
    scored = (
        liked.filter(pl.col("user_id").is_in(users.implode()))
        .join(near, on="item_id")
        .group_by("user_id", item_id="neighbour")
        .agg(candidate_score=pl.col("cosine").sort().sum())
    )
    offered = pl.concat([scored, _popular(liked, users, scored, length)])
    unseen = offered.join(reviews.select("user_id", "item_id").unique(), on=["user_id", "item_id"], how="anti")
    ordered = unseen.sort("user_id", "candidate_score", "item_id", descending=[False, True, False])
    ranked = ordered.with_columns(candidate_rank=pl.int_range(1, pl.len() + 1, dtype=pl.UInt32).over("user_id"))
    return ranked.filter(pl.col("candidate_rank") <= length).select(*schemas.CANDIDATES)


def _neighbours(liked: pl.DataFrame, most: int) -> pl.DataFrame:
    """The nearest items of each item: item_id, neighbour, cosine."""
    degrees = liked.group_by("item_id").agg(degree=pl.len())
    both = liked.join(liked.rename({"item_id": "neighbour"}), on="user_id").filter(
        pl.col("item_id") != pl.col("neighbour")
    )
    shared = both.group_by("item_id", "neighbour").agg(shared=pl.len())
    of_both = shared.join(degrees, on="item_id").join(degrees.rename({"item_id": "neighbour"}), on="neighbour")
    cosines = of_both.with_columns(cosine=pl.col("shared") / (pl.col("degree") * pl.col("degree_right")).sqrt())
    ordered = cosines.sort("item_id", "cosine", "neighbour", descending=[False, True, False])
    return ordered.group_by("item_id", maintain_order=True).head(most).select("item_id", "neighbour", "cosine")


def _popular(liked: pl.DataFrame, users: pl.Series, scored: pl.DataFrame, length: int) -> pl.DataFrame:
    """The most liked items for every user that they were not scored for, with scores below all cosines."""
    counts = liked.group_by("item_id").agg(count=pl.len()).sort("count", "item_id", descending=[True, False])
    lowest = scored["candidate_score"].min()
    scale = 0.5 * (lowest if isinstance(lowest, float) else 1.0)
    # A user has seen some of them: twice as many are enough for most.
    popular = counts.head(2 * length).with_columns(candidate_score=pl.col("count") / counts["count"].max() * scale)
    every = pl.DataFrame({"user_id": users}).join(popular.select("item_id", "candidate_score"), how="cross")
    return every.join(scored, on=["user_id", "item_id"], how="anti")
