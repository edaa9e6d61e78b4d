"""Tables as parquet: contract, content hash, the files for people beside them."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec
import polars as pl

from personarank_dagster.core.errors import ContractError
from personarank_dagster.core.schemas import Schema

TABLE = "table.parquet"
RERANKED_LINES = "reranked.jsonl"

HASH_ROWS = 1 << 20
LINE_USERS = 10_000


def check_table(name: str, table: pl.DataFrame, schema: Schema, key: Sequence[str]) -> None:
    """Raise ContractError unless the columns are those of `schema` and the `key`, if any, is unique and not null."""
    if dict(table.schema) != schema:
        raise ContractError(f"{name}: expected columns {_columns(schema)}, got {_columns(dict(table.schema))}")
    if not key:
        return
    if nulls := sum(table.select(pl.col(key).null_count()).row(0)):
        raise ContractError(f"{name}: {', '.join(key)} must not be null, got {nulls} nulls")
    repeated = table.height - table.select(key).n_unique()
    if repeated:
        example = table.filter(pl.struct(key).is_duplicated()).select(key).row(0, named=True)
        raise ContractError(
            f"{name}: {', '.join(key)} must be unique, got {repeated} repeated rows such as {example}"
        )


def table_version(table: pl.DataFrame) -> str:
    """Content hash of a table: names, types and rows in order. It holds within one release of polars."""
    digest = hashlib.blake2b(repr(list(table.schema.items())).encode(), digest_size=16)
    for chunk in table.iter_slices(HASH_ROWS):
        digest.update(chunk.hash_rows(seed=0).to_numpy().tobytes())
    return digest.hexdigest()


def write_reranked_lines(reranked: pl.DataFrame, path: Path) -> None:
    """One line per user: `{"user_id", "results": [{item_id, score, …}]}`, best first."""
    places = ["item_id", "score", "candidate_score", "persona_score", "unique_persona_id"]
    encoder = msgspec.json.Encoder()
    users = reranked.select("user_id", result=pl.struct(places)).group_by("user_id", maintain_order=True)
    lists = users.agg(results=pl.col("result"))
    with path.open("wb") as file:
        for chunk in lists.iter_slices(LINE_USERS):
            file.write(encoder.encode_lines(chunk.to_dicts()))


def _columns(schema: Schema) -> str:
    return ", ".join(f"{name}: {dtype}" for name, dtype in schema.items())
