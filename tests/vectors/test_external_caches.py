import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from personarank_dagster.core import schemas
from personarank_dagster.core.errors import InputError
from personarank_dagster.core.profiles import unit_rows
from personarank_dagster.vectors.external_caches import (
    check_one_external_encoder,
    read_external_interactions,
    read_external_personas,
)

VECTORS = unit_rows(np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)).astype(np.float16)
META = {"model": "/models/trained", "dim": 8, "normalized": True, "mode": "aspects", "pooling": "attn_mean"}

# Ann's interactions from the oldest to the newest, then Bob's.
LIKED = pl.DataFrame(
    {
        "user_id": ["ann", "ann", "ann", "bob"],
        "item_id": ["i1", "i2", "i3", "i1"],
        "rating": [4.0, 5.0, 3.0, 4.0],
        "timestamp": [1, 2, 3, 4],
        "age": [2, 1, 0, 0],
    }
).with_columns(pl.col("timestamp").cast(schemas.TIMESTAMP), pl.col("age").cast(pl.UInt32))
PERSONAS = pl.DataFrame(
    {"item_id": ["i1", "i1", "i2", "i3"], "unique_persona_id": ["i1_P1", "i1_P2", "i2_P1", "i3_P1"]}
)


@pytest.fixture
def interactions(tmp_path: Path) -> Path:
    """As the public builder writes it: Bob first, each user from the newest to the oldest."""
    VECTORS.tofile(tmp_path / "interaction_embeds.fp16.mmap")
    (tmp_path / "uids.txt").write_text("bob\nann\nann\nann\n")
    (tmp_path / "index.json").write_text(json.dumps({"bob": ["a"], "ann": ["b", "c", "d"]}))
    (tmp_path / "cache_meta.json").write_text(json.dumps(META))
    return tmp_path


@pytest.fixture
def personas(tmp_path: Path) -> Path:
    VECTORS.tofile(tmp_path / "persona_embeds.fp16.mmap")
    (tmp_path / "uids.txt").write_text("i3_P1\ni2_P1\ni1_P1\ni1_P2\n")
    by_item = {"i3": ["i3_P1"], "i2": ["i2_P1"], "i1": ["i1_P1", "i1_P2"]}
    (tmp_path / "business_id_to_uids.json").write_text(json.dumps(by_item))
    (tmp_path / "cache_meta.json").write_text(json.dumps(META))
    return tmp_path


def test_rows_of_a_user_run_from_the_newest_to_the_oldest(interactions: Path) -> None:
    cache, counts = read_external_interactions(interactions, LIKED)
    assert cache.index["item_id"].to_list() == ["i1", "i2", "i3", "i1"]
    assert np.array_equal(cache.vectors[cache.vector_rows], VECTORS[[3, 2, 1, 0]])
    assert counts == {"external_rows": 4, "left_out": 0}


def test_personas_are_found_by_their_id(personas: Path) -> None:
    cache, _ = read_external_personas(personas, PERSONAS)
    assert np.array_equal(cache.vectors[cache.vector_rows], VECTORS[[2, 3, 1, 0]])
    assert cache.made_with.model == "/models/trained"


def test_what_the_cache_does_not_know_is_counted(personas: Path) -> None:
    more = pl.concat([PERSONAS, pl.DataFrame({"item_id": ["i9"], "unique_persona_id": ["i9_P1"]})])
    assert read_external_personas(personas, more)[1]["left_out"] == 1


def rewrite(name: str, old: str, new: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text((folder / name).read_text().replace(old, new))


def spoil(folder: Path) -> None:
    wrong = VECTORS.copy()
    wrong[2] = np.nan
    wrong.tofile(folder / "interaction_embeds.fp16.mmap")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rewrite("uids.txt", "bob\n", ""), r"interaction_embeds.fp16.mmap: must have 3 rows, .*: 48 bytes; got 64"),
        (rewrite("cache_meta.json", '"dim": 8', '"dim": 4'), r"must have 4 rows, .* of 4 fp16 numbers"),
        (rewrite("cache_meta.json", "true", "false"), "normalized must be true, got false"),
        (rewrite("cache_meta.json", '"dim": 8, ', ""), "cache_meta.json: cannot be read as a file of an external"),
        (rewrite("index.json", '"c", ', ""), r"index.json: user ann must have the 3 rows of uids.txt, got 2"),
        (spoil, "vectors must have length 1, got nan in row 2"),
    ],
)
def test_a_cache_whose_files_disagree_is_refused(
    interactions: Path, change: Callable[[Path], object], message: str
) -> None:
    change(interactions)
    with pytest.raises(InputError, match=message):
        read_external_interactions(interactions, LIKED)


def test_a_cache_of_other_histories_is_refused(interactions: Path) -> None:
    with pytest.raises(InputError, match="user ann must have 2 rows, one for each interaction that is liked, got 3"):
        read_external_interactions(interactions, LIKED.tail(3))


def test_personas_that_are_in_one_file_only_are_refused(personas: Path) -> None:
    rewrite("business_id_to_uids.json", '"i1_P1", ', "")(personas)
    with pytest.raises(InputError, match=r"business_id_to_uids.json: must hold the 4 personas of uids.txt, got 3"):
        read_external_personas(personas, PERSONAS)


def test_caches_by_two_encoders_are_refused(tmp_path: Path) -> None:
    for name, model in (("a", "one"), ("b", "one"), ("c", "two")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cache_meta.json").write_text(json.dumps(META | {"model": model}))
    assert check_one_external_encoder(tmp_path / "a", tmp_path / "b") is None
    with pytest.raises(
        InputError, match="both caches must be by one encoder, got two with 8 dimensions here and one"
    ):
        check_one_external_encoder(tmp_path / "a", tmp_path / "c")
