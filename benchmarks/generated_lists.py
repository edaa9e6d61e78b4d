"""Generated lists of candidates, and vectors of interactions and personas, for the sections that rank."""

from pathlib import Path

import numpy as np
import polars as pl

from personarank_dagster.core import schemas
from personarank_dagster.core.profiles import unit_rows

ITEMS, CANDIDATES, PERSONAS, INTERACTIONS = 50_000, 20, 5, 10


def candidate_lists(users: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, pl.DataFrame]:
    """Zipf-like lists without repetitions."""
    starts = (ITEMS * rng.random((users, 1)) ** 3).astype(np.int64)
    items = (starts + np.cumsum(rng.integers(1, ITEMS // CANDIDATES, (users, CANDIDATES)), axis=1)) % ITEMS
    scores = -np.sort(-rng.random((users, CANDIDATES)), axis=1)
    table = pl.DataFrame(
        {
            "user_id": np.repeat(names(users), CANDIDATES),
            "candidate_rank": np.tile(np.arange(1, CANDIDATES + 1), users),
            "item_id": names(ITEMS)[items.ravel()],
            "candidate_score": scores.ravel(),
        },
        schema=schemas.CANDIDATES,
    )
    return items, scores, table


def write_candidates(path: Path, users: int, rng: np.random.Generator) -> None:
    parts = []
    for begin in range(0, users, 50_000):
        _, _, part = candidate_lists(min(50_000, users - begin), rng)
        shifted = pl.Series(
            "user_id", np.repeat(names(begin + 50_000)[begin : begin + part.height // 20], CANDIDATES)
        )
        parts.append(path.with_name(f"candidates-{begin:08}.parquet"))
        part.with_columns(shifted).write_parquet(parts[-1])
    pl.scan_parquet(parts).sink_parquet(path, row_group_size=50_000)
    for part_path in parts:
        part_path.unlink()


def interaction_index(users: int) -> pl.DataFrame:
    ages = np.tile(np.arange(INTERACTIONS, dtype=np.uint32)[::-1], users)
    index = _index(users, INTERACTIONS, "user_id")
    return index.with_columns(item_id=_strings(users * INTERACTIONS) % ITEMS, age=pl.Series(ages)).with_columns(
        pl.col("item_id").cast(pl.String)
    )


def persona_index(items: int, each: int = PERSONAS) -> pl.DataFrame:
    return _index(items, each, "item_id")


def _index(groups: int, each: int, name: str) -> pl.DataFrame:
    rows = pl.int_range(groups * each, dtype=pl.UInt32, eager=True)
    named = (rows // each + 100_000_000).cast(pl.String).str.tail(8).alias(name)
    return pl.DataFrame([named, rows.cast(pl.String).alias("unique_persona_id"), rows.alias("vector_row")])


def _strings(count: int) -> pl.Series:
    return pl.int_range(count, dtype=pl.UInt32, eager=True)


def names(count: int) -> np.ndarray:
    return np.array([f"{number:08d}" for number in range(count)])


def unit_vectors(rng: np.random.Generator, rows: int, dimension: int) -> np.ndarray:
    vectors = np.empty((rows, dimension), np.float16)
    for begin in range(0, rows, 50_000):
        part = rng.standard_normal((min(50_000, rows - begin), dimension), dtype=np.float32)
        vectors[begin : begin + 50_000] = unit_rows(part)
    return vectors


def mapped_vectors(path: Path, rows: int, dimension: int, rng: np.random.Generator) -> np.ndarray:
    np.save(path, unit_vectors(rng, rows, dimension))
    return np.load(path, mmap_mode="r")
