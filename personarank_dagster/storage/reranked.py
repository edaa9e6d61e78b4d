"""Reranked lists on disk: made and written in blocks, as a table and as JSON Lines."""

import weakref
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import polars as pl

from personarank_dagster.core.errors import ContractError
from personarank_dagster.ranking.ranker import blocks
from personarank_dagster.storage.scratch import ScratchFolder
from personarank_dagster.storage.tables import Table, write_table

RERANKED_LINES = "reranked.jsonl"

# What a line says of each place; the old place is `candidate_rank`.
PLACE_FIELDS = (
    "item_id",
    "score",
    "candidate_score",
    "persona_score",
    "unique_persona_id",
    "candidate_rank",
    "interactions",
)
BLOCK_ROWS = 200_000


def spool(parts: Iterator[pl.DataFrame], base: Path) -> Table:
    """All parts as one table: the only one as it is, several as files below `base` that go when the table does."""
    first = next(parts)
    second = next(parts, None)
    if second is None:
        return first
    scratch = ScratchFolder(base)
    paths = (scratch.path / f"part-{i:05}.parquet" for i in range(1 << 30))
    table = pl.scan_parquet([write_table(part, next(paths)) for part in chain((first, second), parts)])
    weakref.finalize(table, scratch.close)
    return table


def write_reranked_lines(reranked: Table, path: Path) -> None:
    """One line per user: `{"user_id", "alpha", "results": [{item_id, score, …}]}`, best first."""
    with path.open("wb") as file:
        for block in blocks(reranked, BLOCK_ROWS):
            places = block.select("user_id", "alpha", result=pl.struct(_fields(block)))
            lists = places.group_by("user_id", maintain_order=True).agg(pl.col("alpha").first(), results="result")
            lists.write_ndjson(file)


def _fields(reranked: pl.DataFrame) -> list[str]:
    """Fields of a place; where the blend was learned, also what each signal adds to the score."""
    return [*PLACE_FIELDS, *(["signals"] if "signals" in reranked.columns else [])]


def read_reranked_lines(path: Path) -> pl.DataFrame:
    """What `write_reranked_lines` wrote: user_id, rank, item_id, candidate_rank."""
    place = pl.Struct({"item_id": pl.String(), "candidate_rank": pl.UInt32()})
    lines = pl.read_ndjson(path, schema={"user_id": pl.String(), "results": pl.List(place)})
    places = lines.with_columns(rank=pl.int_ranges(1, pl.col("results").list.len() + 1, dtype=pl.UInt32))
    return places.explode("results", "rank").unnest("results").select("user_id", "rank", "item_id", "candidate_rank")


def check_reranked(name: str, reranked: Table) -> None:
    """Raise ContractError unless each user has one list, its places numbered from 1, and no item twice."""
    users = [pl.Series("user_id", dtype=pl.String)]
    for block in blocks(reranked, BLOCK_ROWS):
        lists = block.group_by("user_id", maintain_order=True).agg(
            numbered=(pl.col("rank") == pl.int_range(1, pl.len() + 1)).all(),
            distinct=~pl.col("item_id").is_duplicated().any(),
            old_places=pl.col("candidate_rank").n_unique() == pl.len(),
        )
        if (wrong := lists.filter(~pl.all_horizontal("numbered", "distinct", "old_places"))).height:
            raise ContractError(
                f"{name}: places must count from 1, with each candidate once, got others for {wrong.height} users "
                f"such as {wrong['user_id'][0]}"
            )
        users.append(lists["user_id"])
    every = pl.concat(users)
    if repeated := len(every) - every.n_unique():
        raise ContractError(f"{name}: each user must have one list, got {repeated} more")
