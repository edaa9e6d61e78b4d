"""Orders that a reranking must be compared with: popularity, chance, and other users' profiles."""

import numpy as np
import polars as pl

from personarank_dagster.core.profiles import FloatArray
from personarank_dagster.ranking.blending import Alpha, measure, measured_blocks, target_places
from personarank_dagster.ranking.ranker import Ranker, Scores

SEED = 13


def shuffled_places(
    ranker: Ranker, candidates: pl.DataFrame | pl.LazyFrame, ground_truth: pl.DataFrame, *, alpha: Alpha, k: int
) -> pl.DataFrame:
    """user_id, shuffled: places after the same reranking, every user with the profile of another one.

    What is left is not personal.
    """
    exchanged = ranker.with_exchanged_profiles(SEED)
    return measure(exchanged, candidates, ground_truth, alpha=alpha, k=k).by_user("shuffled")


def popularity_and_random_places(
    ranker: Ranker, candidates: pl.DataFrame | pl.LazyFrame, ground_truth: pl.DataFrame, interactions: pl.DataFrame
) -> pl.DataFrame:
    """user_id, popularity, random: places where lists are ordered by the number of interactions of an item, or by
    chance. Ties are as the retriever has them.
    """
    popularity = interactions.group_by("item_id").len("count")
    rng = np.random.default_rng(SEED)
    places = {"popularity": [np.empty(0, np.int64)], "random": [np.empty(0, np.int64)]}
    users = [pl.Series("user_id", dtype=pl.String)]
    for block in measured_blocks(candidates, ground_truth):
        counted = block.join(popularity, on="item_id", how="left", maintain_order="left")
        scores: dict[str, Scores] = {
            "popularity": counted["count"].fill_null(0).cast(pl.Float64).to_numpy(),
            "random": rng.random(block.height),
        }
        lists, none = ranker.lists(block), _none(block.height)
        users.append(block["user_id"].gather(lists.offsets[:-1]))
        for name, values in scores.items():
            places[name].append(target_places(lists, block, values, none, (0.0,))[:, 0])
    return pl.DataFrame(
        {"user_id": pl.concat(users)} | {name: np.concatenate(parts) for name, parts in places.items()}
    )


def _none(pairs: int) -> FloatArray:
    return np.full(pairs, np.nan, np.float32)
