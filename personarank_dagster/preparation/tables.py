"""The tables that the graph is made of, from those of the preparation."""

import polars as pl

from personarank_dagster.core import schemas
from personarank_dagster.core.aspects import SchemaName
from personarank_dagster.preparation.reviews.split import Split


def interactions_of(split: Split, summaries: pl.DataFrame, aspects: pl.DataFrame, schema: SchemaName) -> pl.DataFrame:
    """The training reviews as `histories`: those of a user from the oldest, with what the model was told of each."""
    ordered = split.training.table.sort("user_id", "timestamp", maintain_order=True)
    told = ordered.join(summaries, on="item_id", how="left", maintain_order="left")
    whole = told.join(aspects, on="review_id", how="left", maintain_order="left")
    positions = pl.int_range(pl.len(), dtype=pl.UInt32).over("user_id")
    return whole.with_columns(position=positions).select(*schemas.histories(schema))
