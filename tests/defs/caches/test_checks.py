"""Each check of the caches with a table that passes and one that fails; all on a real run in test_caches."""

from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest

from personarank_dagster.core.profiles import unit_rows
from personarank_dagster.defs.caches import checks as cache_checks
from personarank_dagster.defs.caches.checks import are_by_one_encoder, covers, differ, equals, index_agrees
from personarank_dagster.ranking.ranker import VectorTable
from personarank_dagster.vectors.embeddings import MadeWith, write_embeddings

UNIT = unit_rows(np.random.default_rng(0).normal(size=(30, 16)).astype(np.float32)).astype(np.float16)
KEYS = np.arange(60, dtype=np.uint64).reshape(30, 2)
ROWS = pl.DataFrame({"item_id": [f"i{i // 3}" for i in range(30)], "vector_row": range(30)})
TABLE = VectorTable(UNIT, ROWS)
MADE_WITH = MadeWith(
    encoder="e",
    model="m",
    dimension=16,
    max_len=8,
    template_version="1",
    mode="aspects",
    fields="N",
    truncated_share=0,
)


class Folder:
    """A subject whose cache lies in a folder."""

    asset = "persona_cache"

    def __init__(self, folder: Path, vectors: np.ndarray) -> None:
        write_embeddings(folder, VectorTable(vectors, ROWS))
        self.embeddings = cache_checks.read_embeddings(folder)


@pytest.mark.parametrize(("row", "passes"), [(UNIT[3], True), (UNIT[3] * 2, False), (UNIT[3] * np.nan, False)])
def test_vectors_are_unit(tmp_path: Path, row: np.ndarray, passes: bool) -> None:
    vectors = UNIT.copy()
    vectors[3] = row
    found = cache_checks.vectors_are_unit(Folder(tmp_path, vectors))  # type: ignore[arg-type]
    assert found.passed == passes
    assert passes or "in row 3" in found.numbers["note"]


def test_index_agrees_with_the_matrix() -> None:
    assert index_agrees(TABLE, KEYS).passed
    beyond = VectorTable(UNIT, ROWS.with_columns(vector_row=pl.col("vector_row") + 1))
    assert index_agrees(beyond, KEYS).numbers == {"vectors": 30, "used": 29, "beyond": 1, "distinct_texts": 30}
    assert not index_agrees(beyond, KEYS).passed
    assert not index_agrees(TABLE, KEYS[:29]).passed
    assert not index_agrees(TABLE, KEYS[[0, *range(29)]]).passed


def test_covers_what_it_is_made_from() -> None:
    half = VectorTable(UNIT, ROWS.head(15))
    assert covers(TABLE, ROWS, "item_id", 0.8).passed
    assert covers(half, ROWS, "item_id", 0.8).numbers == {"covered": 5, "total": 10, "share": 0.5}
    assert not covers(half, ROWS, "item_id", 0.8).passed


def test_does_not_collapse() -> None:
    assert differ(UNIT.astype(np.float32)).passed
    collapsed = differ(UNIT[[0] * 15 + list(range(15, 30))].astype(np.float32))
    assert not collapsed.passed
    assert collapsed.numbers["same_share"] == 0.5


def test_matches_its_encoder() -> None:
    assert equals(UNIT.astype(np.float32) + 1e-4, UNIT, 2e-3).passed
    assert not equals(UNIT[::-1].astype(np.float32), UNIT, 2e-3).passed


@pytest.mark.parametrize(("field", "value"), [("encoder", "f"), ("template_version", "2"), ("mode", "summary")])
def test_caches_are_by_one_encoder(field: str, value: str) -> None:
    assert are_by_one_encoder([MADE_WITH, msgspec.structs.replace(MADE_WITH, fields="D")]).passed
    assert not are_by_one_encoder([MADE_WITH, msgspec.structs.replace(MADE_WITH, **{field: value})]).passed
