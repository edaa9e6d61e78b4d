"""Encoding in real processes, with a tiny encoder, on the CPU."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from personarank_dagster.core.encoders import BaseModel
from personarank_dagster.core.errors import EncoderError
from personarank_dagster.encoding.encoder import load_base
from personarank_dagster.encoding.processes import encode_in_processes
from personarank_dagster.vectors.text_keys import text_keys
from personarank_dagster.vectors.vector_store import VectorStore
from tests.tiny_models import WORDS, write_tiny_model

rng = np.random.default_rng(0)
TEXTS = pl.Series([" ".join(rng.choice(WORDS, count % 20 + 1)) for count in range(60)]).unique(maintain_order=True)
KEYS = text_keys(TEXTS)


@pytest.fixture
def base(tmp_path: Path) -> BaseModel:
    return BaseModel(write_tiny_model(tmp_path), 32, "")


def encode(base: BaseModel, folder: Path, devices: list[str], finished: list[int]) -> VectorStore:
    (folder / "scratch").mkdir()
    store = VectorStore(folder, "store")
    encode_in_processes(
        TEXTS, KEYS, base, "document", store.folder, devices, "fp32", folder / "scratch", finished.append
    )
    store.reload()
    return store


def test_two_processes_give_the_bits_of_one(base: BaseModel, tmp_path: Path) -> None:
    from personarank_dagster.encoding.encoder import encode as encode_here

    finished: list[int] = []
    store = encode(base, tmp_path, ["cpu", "cpu"], finished)
    assert sum(finished) == len(TEXTS)
    assert len(list(store.folder.glob("*.keys.npy"))) == 2
    expected = encode_here(load_base(base, "cpu"), TEXTS.to_list()).astype(np.float16)
    assert np.array_equal(store.vectors(store.places(KEYS)), expected)


def test_a_process_that_fails_ends_the_build_with_its_own_error(base: BaseModel, tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"encoding process 1 of 1 on nowhere: .*nowhere.*; what was finished is"):
        encode(base, tmp_path, ["nowhere"], [])
