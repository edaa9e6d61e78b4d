from pathlib import Path

import numpy as np
import polars as pl
import pytest

from personarank_dagster.core.errors import ContractError, StorageError
from personarank_dagster.core.profiles import unit_rows
from personarank_dagster.ranking.ranker import VectorTable
from personarank_dagster.storage.manifests import Provenance
from personarank_dagster.storage.versions import VersionStore
from personarank_dagster.vectors.embeddings import check_embeddings, read_embeddings, write_embeddings

UNIT = unit_rows(np.random.default_rng(0).normal(size=(3, 384)).astype(np.float32))


def table(vectors: np.ndarray, rows: list[int]) -> VectorTable:
    return VectorTable(vectors, pl.DataFrame({"vector_row": rows}, schema={"vector_row": pl.UInt32}))


def test_what_is_read_equals_what_was_written_within_fp16(tmp_path: Path) -> None:
    write_embeddings(tmp_path, table(UNIT, [2, 0, 1, 0]))
    read = read_embeddings(tmp_path)
    assert read.vectors.dtype == np.float16
    assert isinstance(read.vectors, np.memmap)
    np.testing.assert_allclose(read.vectors, UNIT, atol=1e-3)
    assert read.vector_rows.tolist() == [2, 0, 1, 0]
    assert check_embeddings("cache", read) is None


def test_the_manifest_has_the_hashes_that_were_taken_while_writing(tmp_path: Path) -> None:
    embeddings, made_from = table(UNIT, [0, 1, 2]), Provenance(code_version="", inputs={})
    version = VersionStore(tmp_path, "persona_cache", "amazon").publish(
        lambda folder: write_embeddings(folder, embeddings), run_id="", data_version="v", provenance=made_from
    )
    assert version.damage() == []
    assert version.manifest.details == {"rows": 3, "vectors": 3, "dimension": 384}


@pytest.mark.parametrize(
    ("vectors", "rows", "message"),
    [
        (UNIT * 2, [0, 1, 2], r"vectors must have length 1, got 2 in row 0"),
        (np.where(UNIT[1, 0] == UNIT, np.nan, UNIT), [0, 1, 2], "must have length 1, got nan in row 1"),
        (UNIT, [0, 1, 3], "vector_row must cover the 3 vectors, got up to 3"),
        (UNIT, [0, 1, 1], "vector_row must cover the 3 vectors"),
    ],
)
def test_vectors_that_break_the_contract_are_named(vectors: np.ndarray, rows: list[int], message: str) -> None:
    with pytest.raises(ContractError, match=message):
        check_embeddings("cache", table(vectors, rows))


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    write_embeddings(tmp_path, table(UNIT, [0, 1, 2]))
    (tmp_path / "vectors.npy").write_bytes(b"not numpy")
    with pytest.raises(StorageError, match="embeddings cannot be read"):
        read_embeddings(tmp_path)
