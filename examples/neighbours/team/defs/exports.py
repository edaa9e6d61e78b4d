"""What the team makes of the lists: they come as polars frames, through the graph's own IO manager."""

import dagster as dg
import polars as pl

BOOKS = ["search", "books"]


@dg.asset(
    key=["exports", "first_places"],
    partitions_def=dg.StaticPartitionsDefinition(["books"]),
    ins={
        "lists": dg.AssetIn([*BOOKS, "reranked_candidates"]),
        "vectors": dg.AssetIn([*BOOKS, "persona_cache"]),
    },
    automation_condition=dg.AutomationCondition.eager(),
    kinds={"polars"},
)
def first_places(lists: pl.LazyFrame, vectors: pl.LazyFrame) -> pl.DataFrame:
    """One row per user: the item that is first now, and the vector of the persona that speaks for it."""
    first = lists.filter(pl.col("rank") == 1).select("user_id", "item_id", "unique_persona_id")
    return first.join(vectors.select("unique_persona_id", "vector"), on="unique_persona_id", how="left").collect()


@dg.asset(key=["exports", "gains"], ins={"metrics": dg.AssetIn([*BOOKS, "rerank_metrics"])}, kinds={"polars"})
def gains(metrics: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """One row per dataset: what the reranking gains for all its users, in NDCG@10."""
    tables = [table.with_columns(dataset=pl.lit(name)) for name, table in metrics.items()]
    headline = (pl.col("scenario") == "all") & (pl.col("metric") == "NDCG") & (pl.col("k") == 10)
    return pl.concat(tables).filter(headline).select("dataset", "candidate", "reranked", "lift")
