"""Orders that a reranking must be compared with: popularity, chance, and other users' profiles."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from personarank_dagster.core.profiles import FloatArray, unit_rows
from personarank_dagster.ranking.blending import Measured, measured_blocks, target_places
from personarank_dagster.ranking.ranker import Ranker, Scores, VectorTable

SEED = 13
# Items whose interactions are summed at a time.
ITEMS_AT_ONCE = 1_000


Measure = Callable[[Ranker, pl.DataFrame | pl.LazyFrame, pl.DataFrame], Measured[Any]]


def shuffled_places(
    ranker: Ranker, candidates: pl.DataFrame | pl.LazyFrame, ground_truth: pl.DataFrame, measured: Measure
) -> pl.DataFrame:
    """user_id, shuffled: places after reranking in the same way, every user with the profile of another one.

    What is left is not personal.
    """
    exchanged = ranker.with_exchanged_profiles(SEED)
    return measured(exchanged, candidates, ground_truth).by_user("shuffled")


def content_places(
    ranker: Ranker, candidates: pl.DataFrame | pl.LazyFrame, ground_truth: pl.DataFrame, measured: Measure
) -> pl.DataFrame:
    """user_id, content: places after reranking in the same way, with the mean of an item's interaction texts as its
    only persona. What is gained beyond that is gained by personas.
    """
    return measured(with_item_texts(ranker), candidates, ground_truth).by_user("content")


def with_item_texts(ranker: Ranker) -> Ranker:
    """The same, every item with the mean of its interaction texts as its only persona."""
    if ranker.elsewhere:
        return replace(ranker, elsewhere=ranker.elsewhere.with_item_texts())
    personas = _mean_texts(ranker.interactions)
    return replace(ranker, personas=personas, items=personas.windows("item_id"))


def _mean_texts(interactions: VectorTable) -> VectorTable:
    """A vector for each item: the direction of the sum of its interactions' vectors."""
    of_item = interactions.index.group_by("item_id", maintain_order=True).agg("vector_row")
    blocks = [_sums(interactions, block["vector_row"]) for block in of_item.iter_slices(ITEMS_AT_ONCE)]
    vectors = (
        unit_rows(np.concatenate(blocks)) if blocks else np.empty((0, interactions.vectors.shape[1]), np.float32)
    )
    index = of_item.select("item_id", unique_persona_id="item_id").with_row_index("vector_row")
    return VectorTable(vectors, index)


def _sums(interactions: VectorTable, rows: pl.Series) -> FloatArray:
    lengths = rows.list.len().cast(pl.Int64).to_numpy()
    own = interactions.vectors[rows.explode().to_numpy()].astype(np.float32)
    sums: FloatArray = np.add.reduceat(own, lengths.cumsum() - lengths, axis=0)
    return sums


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
