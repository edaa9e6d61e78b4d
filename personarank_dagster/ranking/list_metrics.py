"""What lists offer besides hits: how much of the catalogue, how evenly, how new, how varied. No ground truth."""

import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from personarank_dagster.ranking.ranker import VectorTable

LIST_METRIC_NAMES = ("COVERAGE", "GINI", "NOVELTY", "DIVERSITY")
# Users whose lists are compared by vectors, drawn by a hash of the id; of more the mean does not change.
DIVERSITY_USERS = 20_000
LISTS_AT_ONCE = 2_000


def list_metrics(
    reranked: pl.DataFrame | pl.LazyFrame,
    interactions: pl.DataFrame,
    personas: VectorTable,
    *,
    order: str,
    ks: Sequence[int],
) -> dict[str, float | None]:
    """Metrics of the first k places by a column of places, over all lists, whether measured or not.

    COVERAGE: share of the items with personas that are shown at all. GINI: of how often each of these is shown, 0
    where all are alike. Shown items without personas count for neither. NOVELTY: mean -log2 of the share of users who
    know the item, in bits. DIVERSITY: mean of 1 - cosine of two places' best personas; None where no list has two.
    All are None where there is nothing to count.
    """
    catalogue = personas.index.select("item_id").unique()
    users, known = interactions["user_id"].n_unique(), interactions.group_by("item_id").agg(pl.n_unique("user_id"))
    rows = reranked.lazy().filter(pl.col(order) <= max(ks))
    shown = rows.group_by("item_id", order).len().collect(engine="streaming")
    compared = _compared(rows, order, personas)
    found: dict[str, float | None] = {}
    for k in ks:
        counts = shown.filter(pl.col(order) <= k).group_by("item_id").agg(pl.col("len").sum())
        exposure = catalogue.join(counts, on="item_id", how="left")["len"].fill_null(0).to_numpy()
        # In one order, so that the sum has the same last digits each time.
        seen = counts.sort("item_id").join(known, on="item_id", how="left", maintain_order="left")
        seen = seen.with_columns(pl.col("user_id").fill_null(0))
        surprise = -np.log2((seen["user_id"].to_numpy() + 1) / (users + 1))
        values = (
            float((exposure > 0).mean()) if len(exposure) else None,
            gini(exposure) if len(exposure) else None,
            float(np.average(surprise, weights=seen["len"].to_numpy())) if len(seen) else None,
            _diversity(compared, personas, k),
        )
        found |= {f"{name}@{k}": value for name, value in zip(LIST_METRIC_NAMES, values, strict=True)}
    return found


def gini(counts: npt.NDArray[np.integer]) -> float:
    """Gini coefficient of counts: 0 where all are equal, near 1 where one has everything; 0 of nothing."""
    ascending, total = np.sort(counts.astype(np.float64)), float(counts.sum())
    if not total:
        return 0.0
    places = np.arange(1, len(ascending) + 1)
    return float((2 * places - len(ascending) - 1) @ ascending / (len(ascending) * total))


def _compared(rows: pl.LazyFrame, order: str, personas: VectorTable) -> pl.DataFrame:
    """User, place and row of the best persona's vector, of the users that are compared; in the order of places."""
    placed = rows.filter(pl.col("unique_persona_id").is_not_null()).select("user_id", order, "unique_persona_id")
    users = placed.select("user_id").unique().collect(engine="streaming")["user_id"]
    if len(users) > DIVERSITY_USERS:
        hashes = pl.Series([zlib.crc32(user.encode()) for user in users])
        users = users.gather(hashes.arg_sort()[:DIVERSITY_USERS])
    own = placed.filter(pl.col("user_id").is_in(users.implode())).collect(engine="streaming")
    found = own.join(personas.index.select("unique_persona_id", "vector_row"), on="unique_persona_id")
    return found.rename({order: "place"}).sort("user_id", "place")


def _diversity(compared: pl.DataFrame, personas: VectorTable, k: int) -> float | None:
    """See above; the cosines of all pairs of a list sum to the square of the sum of its vectors."""
    first = compared.filter(pl.col("place") <= k)
    lists = (
        first.group_by("user_id", maintain_order=True).agg("vector_row").filter(pl.col("vector_row").list.len() > 1)
    )
    found = [_spread(personas.vectors, block["vector_row"]) for block in lists.iter_slices(LISTS_AT_ONCE)]
    return float(np.concatenate(found).mean()) if found else None


def _spread(vectors: npt.NDArray[np.floating], rows_of_list: pl.Series) -> npt.NDArray[np.float64]:
    """1 - the mean cosine of two vectors of each list, which has at least two."""
    sizes = rows_of_list.list.len().cast(pl.Int64).to_numpy()
    own = vectors[rows_of_list.explode().to_numpy()].astype(np.float32)
    firsts = sizes.cumsum() - sizes
    together = np.square(np.add.reduceat(own, firsts, axis=0).astype(np.float64)).sum(axis=1)
    alone = np.add.reduceat(np.square(own.astype(np.float64)).sum(axis=1), firsts)
    found: npt.NDArray[np.float64] = 1 - (together - alone) / (sizes * (sizes - 1))
    return found
