"""Candidate lists by what users liked."""

from collections.abc import Callable

import numpy as np
import polars as pl
from scipy import sparse

from personarank_dagster.configuration.settings import RetrieverConfig
from personarank_dagster.core import schemas
from personarank_dagster.core.errors import ConfigError
from personarank_dagster.preparation.retrieval.item_neighbours import blocks_of, neighbour_scores

# Scores of some users for all items; what is not above 0 is no candidate.
Scores = Callable[[slice], np.ndarray]


def candidate_lists(interactions: pl.LazyFrame, config: RetrieverConfig) -> pl.DataFrame:
    """Lists of all users, best first, without what they interacted with; the columns of `candidates`.

    Ties go by item id. Items that nobody liked are in no list.
    """
    seen = interactions.group_by("user_id", "item_id").agg(rating=pl.col("rating").max()).collect()
    users, items = (seen[name].unique().sort() for name in ("user_id", "item_id"))
    if users.is_empty():
        return pl.DataFrame(schema=schemas.CANDIDATES)
    liked = _matrix(seen.filter(pl.col("rating") >= config.min_rating), users, items)
    scores, known = _scores(liked, config), _matrix(seen, users, items)
    parts = [_best(scores(block), known[block], block, config.length) for block in blocks_of(len(users))]
    owners, chosen, values = (np.concatenate(column) for column in zip(*parts, strict=True))
    ranks = pl.int_range(1, pl.len() + 1, dtype=pl.UInt32).over("user_id")
    table = pl.DataFrame({"user_id": users[owners], "item_id": items[chosen], "candidate_score": values})
    return table.with_columns(candidate_rank=ranks).select(*schemas.CANDIDATES)


def _matrix(pairs: pl.DataFrame, users: pl.Series, items: pl.Series) -> sparse.csr_array:
    """1 where the user has the item, # (users, items)."""
    rows, columns = users.search_sorted(pairs["user_id"]), items.search_sorted(pairs["item_id"])
    shape = (len(users), len(items))
    return sparse.csr_array((np.ones(pairs.height), (rows.to_numpy(), columns.to_numpy())), shape=shape)


def _scores(liked: sparse.csr_array, config: RetrieverConfig) -> Scores:
    return _factor_scores(liked, config) if config.method == "als" else _filled_neighbours(liked, config)


def _filled_neighbours(liked: sparse.csr_array, config: RetrieverConfig) -> Scores:
    """Scores by neighbours; below all of these, the share of users who liked the item."""
    near = neighbour_scores(liked, config.neighbours)
    popular = np.asarray(liked.sum(axis=0), dtype=np.float64).ravel()
    lowest = near.data.min() if near.nnz else 1.0
    below = popular / max(popular.max(initial=0), 1) * lowest / 2

    def scores(block: slice) -> np.ndarray:
        dense = near[block].toarray()
        filled: np.ndarray = np.where(dense > 0, dense, below)
        return filled

    return scores


def _factor_scores(liked: sparse.csr_array, config: RetrieverConfig) -> Scores:
    """Products of factors by alternating least squares. Raises ConfigError where `implicit` is not installed."""
    try:
        from implicit.als import AlternatingLeastSquares
    except ImportError as error:
        raise ConfigError(
            "retriever.yaml: method als needs implicit, which is not installed; "
            "pip install 'personarank-dagster[retriever]', or take item_knn"
        ) from error
    model = AlternatingLeastSquares(config.factors, random_state=config.seed, num_threads=1)
    model.fit(sparse.csr_matrix(liked, dtype=np.float32), show_progress=False)
    some = np.asarray(liked.sum(axis=0)).ravel() > 0

    def scores(block: slice) -> np.ndarray:
        products = model.user_factors[block] @ model.item_factors.T
        # Products may be negative; an order is all that counts.
        return np.where(some, np.exp(products.astype(np.float64)), 0.0)

    return scores


def _best(
    scores: np.ndarray, known: sparse.csr_array, block: slice, length: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Users, items and scores of the best of each row, row by row."""
    scores[known.nonzero()] = 0.0
    order = np.argsort(-scores, axis=1, kind="stable")[:, :length]
    values = np.take_along_axis(scores, order, axis=1)
    owners = np.broadcast_to(np.arange(block.start, block.stop)[:, None], order.shape)
    kept = values > 0
    return owners[kept], order[kept], values[kept]
