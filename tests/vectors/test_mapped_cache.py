from pathlib import Path

import numpy as np
import polars as pl
import pytest

from personarank_dagster.core.errors import StorageError
from personarank_dagster.core.profiles import unit_rows
from personarank_dagster.vectors.embeddings import CacheTable, MadeWith, write_embeddings
from personarank_dagster.vectors.mapped_cache import open_cache

VECTORS = unit_rows(np.random.default_rng(0).normal(size=(6, 16)).astype(np.float32)).astype(np.float16)
INDEX = pl.DataFrame(
    {
        "user_id": ["ann", "ann", "ann", "bob", "cleo", "cleo"],
        "age": [2, 1, 0, 0, 1, 0],
        "vector_row": [5, 0, 1, 0, 3, 2],
    }
)
MADE_WITH = MadeWith(
    encoder="e", model="m", dimension=16, max_len=8, template_version="1", mode="", fields="", truncated_share=0
)


def test_a_profile_is_the_weighted_mean_of_the_last_interactions(tmp_path: Path) -> None:
    write_embeddings(tmp_path, CacheTable(VECTORS, INDEX, MADE_WITH))
    cache = open_cache(tmp_path)
    assert cache.rows_of("ann").tolist() == [5, 0, 1]
    expected = unit_rows((0.5 * VECTORS[[0]] + VECTORS[[1]]).astype(np.float32))[0]
    np.testing.assert_allclose(cache.profile("ann", k=2, gamma=0.5), expected, atol=1e-3)
    np.testing.assert_allclose(cache.profile("bob", k=2, gamma=0.5), VECTORS[0], atol=1e-3)


def test_an_unknown_user_has_no_profile(tmp_path: Path) -> None:
    write_embeddings(tmp_path, CacheTable(VECTORS, INDEX, MADE_WITH))
    assert open_cache(tmp_path).profile("dan", k=2, gamma=0.5) is None


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    write_embeddings(tmp_path, CacheTable(VECTORS, INDEX, MADE_WITH))
    (tmp_path / "groups.npy").unlink()
    with pytest.raises(StorageError, match=r"groups\.npy: embeddings cannot be read"):
        open_cache(tmp_path)
