"""Publishing a version against a plain `np.save` and `write_parquet` of the same data, to new files.

Publishing hashes the content, checks the contract, writes, hashes the files, flushes them to the disk, renames the
folder and swaps the pointer. The plain way does nothing but write.
"""

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from personarank_dagster.core import schemas
from personarank_dagster.core.profiles import unit_rows
from personarank_dagster.defs.graph import output_format
from personarank_dagster.defs.platform.io.formats import OutputFormat
from personarank_dagster.ranking.ranker import VectorTable
from personarank_dagster.storage.manifests import Provenance
from personarank_dagster.storage.versions import VersionStore

VECTORS, DIMENSION, ROWS, ROUNDS = 1_300_000, 384, 2_500_000, 5


def main() -> None:
    embeddings, table = _embeddings(), _table()
    _compare("embeddings", "persona_cache", embeddings, embeddings.vectors.nbytes, _save_embeddings)
    _compare("table", "histories", table, int(table.estimated_size()), _save_table)


def _compare(name: str, asset: str, value: Any, num_bytes: int, save: Callable[[Any, Path], None]) -> None:
    output = output_format(asset, "amazon")
    ways = {
        "plain": save,
        "plain and flushed": lambda value, folder: _save_flushed(save, value, folder),
        "published": lambda value, folder: _publish(output, asset, value, folder),
    }
    clocks: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "processor": time.process_time}
    seconds: dict[tuple[str, str], list[float]] = {(clock, way): [] for clock in clocks for way in ways}
    for _ in range(ROUNDS):
        for way, run in ways.items():
            folder = Path(tempfile.mkdtemp())
            started = {clock: now() for clock, now in clocks.items()}
            run(value, folder)
            for clock, now in clocks.items():
                seconds[clock, way].append(now() - started[clock])
            shutil.rmtree(folder)
    for clock in clocks:
        ours = seconds[clock, "published"]
        print(
            f"{name}, {num_bytes / 1e9:.1f} GB, {clock}: published {statistics.median(ours):.2f} s; "
            + "; ".join(
                f"{way} {statistics.median(plain):.2f} s: "
                f"{statistics.median(our / their for our, their in zip(ours, plain, strict=True)):.2f} times"
                for way in ("plain", "plain and flushed")
                if (plain := seconds[clock, way])
            )
        )


def _publish(output: OutputFormat[Any], asset: str, value: Any, folder: Path) -> None:
    VersionStore(folder, asset, "amazon").publish(
        lambda directory: output.write(value, directory),
        check=lambda: output.check(asset, value),
        run_id="benchmark",
        data_version=output.version_of(value),
        provenance=Provenance(code_version="1", inputs={}),
    )


def _save_flushed(save: Callable[[Any, Path], None], value: Any, folder: Path) -> None:
    save(value, folder)
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _save_embeddings(value: VectorTable, folder: Path) -> None:
    np.save(folder / "vectors.npy", value.vectors)
    value.index.write_parquet(folder / "index.parquet")


def _save_table(value: pl.DataFrame, folder: Path) -> None:
    value.write_parquet(folder / "table.parquet")


def _embeddings() -> VectorTable:
    some = unit_rows(np.random.default_rng(0).normal(size=(10_000, DIMENSION)).astype(np.float32)).astype(np.float16)
    items = pl.Series([f"{number // 5:08d}" for number in range(VECTORS)])
    index = {
        "item_id": items,
        "unique_persona_id": [f"{number // 5:08d}_P{number % 5}" for number in range(VECTORS)],
        "vector_row": np.arange(VECTORS),
    }
    return VectorTable(np.tile(some, (VECTORS // 10_000, 1)), pl.DataFrame(index, schema=schemas.PERSONA_INDEX))


def _table() -> pl.DataFrame:
    """Histories whose texts are random words, which pack no better than real ones."""
    rng = np.random.default_rng(0)
    words = np.array([rng.bytes(4).hex() for _ in range(50_000)])
    position = np.arange(ROWS)
    columns: dict[str, Any] = {
        "user_id": np.char.mod("u%08d", position // 8),
        "position": position % 8,
        "item_id": np.char.mod("i%06d", rng.integers(0, 100_000, ROWS)),
        "rating": rng.integers(1, 6, ROWS).astype(float),
        "timestamp": 10**15 + position * 10**6,
    }
    schema = schemas.histories("amazon")
    for name in schema.keys() - columns.keys():
        picked = (pl.Series(words[rng.integers(0, len(words), ROWS)]) for _ in range(4))
        columns[name] = pl.select(pl.concat_str(list(picked), separator=" ")).to_series()
    return pl.DataFrame({name: columns[name] for name in schema}).cast(dict(schema))
