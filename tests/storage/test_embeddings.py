from pathlib import Path

import numpy as np
import polars as pl
import pytest

from personarank_dagster.core.errors import ContractError, StorageError
from personarank_dagster.core.profiles import unit_rows
from personarank_dagster.core.ranking import VectorTable
from personarank_dagster.storage.embeddings import check_embeddings, read_embeddings, write_embeddings
from personarank_dagster.storage.vector_store import VectorStore

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


class CountingEncoder:
    """Encodes a text as its length and first letter, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, texts: list[str]) -> np.ndarray:
        self.texts += texts
        return np.array([[len(text), ord(text[0])] for text in texts], dtype=np.float32)


def test_the_vector_store_encodes_each_text_once_across_processes(tmp_path: Path) -> None:
    encoder = CountingEncoder()
    first = VectorStore(tmp_path, "model").vectors_of(["bb", "a"], encoder)
    again = VectorStore(tmp_path, "model").vectors_of(["a", "ccc", "bb"], encoder)
    assert (first.reused, first.encoded, again.reused, again.encoded) == (0, 2, 2, 1)
    assert again.vectors[:, 0].tolist() == [1, 3, 2]
    assert sorted(encoder.texts) == ["a", "bb", "ccc"]


def test_another_model_shares_no_vectors(tmp_path: Path) -> None:
    VectorStore(tmp_path, "model").vectors_of(["a"], CountingEncoder())
    assert VectorStore(tmp_path, "other").missing(["a"]) == 1


def test_a_block_without_its_keys_is_as_if_it_were_not_there(tmp_path: Path) -> None:
    VectorStore(tmp_path, "model").vectors_of(["a"], CountingEncoder())
    next((tmp_path / "model").glob("*.keys.npy")).unlink()
    assert VectorStore(tmp_path, "model").missing(["a"]) == 1
