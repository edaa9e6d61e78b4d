from pathlib import Path

import polars as pl
import pytest

from personarank_dagster.configuration.strict_yaml import files_of
from personarank_dagster.core.errors import InputError
from personarank_dagster.raw import columns, ingestion
from personarank_dagster.raw.bad_lines import Account, ReadRules
from personarank_dagster.raw.parts import parts_of, parts_version
from personarank_dagster.raw.readers import read_tables
from personarank_dagster.storage.known_hashes import file_version
from tests.raw.files import lines


def pair(number: int) -> dict[str, str]:
    return {"user_id": f"u{number}", "item_id": "i"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three parts in the order of their names, as Spark writes them."""
    parts = tmp_path / "gt"
    parts.mkdir()
    lines(parts / "part-00001.json.gz", pair(1))
    lines(parts / "part-00000.json", pair(0))
    pl.DataFrame([pair(2)]).write_parquet(parts / "part-00002.snappy.parquet")
    lines(parts / "part-00003.json")
    (parts / "_SUCCESS").touch()
    (parts / ".part-00000.json.crc").write_bytes(b"\x00")
    return parts


@pytest.mark.parametrize("pattern", ["gt", "gt/part-*", "g?/part-0000[0-9].*", "gt/*"])
def test_a_folder_and_a_pattern_are_read_as_one_file_in_order_of_names(folder: Path, pattern: str) -> None:
    ingested = ingestion.read_ground_truth(folder.parent / pattern)
    assert (ingested.table.rows(), ingested.read) == ([("u0", "i"), ("u1", "i"), ("u2", "i")], 3)


def test_a_list_is_read_as_one_file_in_its_own_order(folder: Path, tmp_path: Path) -> None:
    lines(tmp_path / "late.jsonl", pair(9))
    data = tmp_path / "data.yaml"
    several = files_of(data, ["late.jsonl", "gt/part-0000[1-9].*", "gt/part-00000.json"])
    assert ingestion.read_ground_truth(several).table["user_id"].to_list() == ["u9", "u1", "u2", "u0"]
    before = parts_version(several, tmp_path / "raw_files.json")
    lines(folder / "part-00000.json", pair(5))
    assert parts_version(several, tmp_path / "raw_files.json") != before


def test_an_entry_of_a_list_that_is_not_there_is_named(folder: Path, tmp_path: Path) -> None:
    several = files_of(tmp_path / "data.yaml", ["gt", "gone.jsonl"])
    with pytest.raises(InputError, match=r"gt, .*gone.jsonl: expected .* got none for .*/gone.jsonl; correct"):
        ingestion.read_ground_truth(several)


def test_a_bad_line_of_a_list_is_named_by_its_file(folder: Path, tmp_path: Path) -> None:
    lines(tmp_path / "more.jsonl", pair(4), "null")
    with pytest.raises(InputError, match=r"/more.jsonl line 2: expected an object, got null"):
        ingestion.read_ground_truth(files_of(tmp_path / "data.yaml", ["gt", "more.jsonl"]))


def test_histories_of_parts_are_one_table(tmp_path: Path) -> None:
    for name, user, time in (("a", "v", 2), ("b", "u", 1)):
        review = {"item_id": "i", "rating": 5, "timestamp": time * 1_000_000_000}
        lines(tmp_path / f"{name}.jsonl", {"user_id": user, "reviews": [review]})
    assert ingestion.read_histories(tmp_path / "*.jsonl", "amazon").table["user_id"].to_list() == ["u", "v"]


def test_a_bad_line_is_named_by_its_part_and_counted_over_all(folder: Path) -> None:
    lines(folder / "part-00004.json", pair(4), "null")
    rules = ReadRules(on_bad_row="quarantine", max_bad_share=0.2)
    (bad,) = ingestion.read_ground_truth(folder, rules).bad_lines
    assert str(bad) == f"{folder}/part-00004.json line 2: expected an object, got null"


def test_a_part_that_comes_while_others_are_read_stops(folder: Path) -> None:
    tables = read_tables(folder, columns.GROUND_TRUTH, Account(folder, ReadRules()))
    next(tables)
    lines(folder / "part-00009.json", pair(9))
    with pytest.raises(InputError, match="gt: changed while it was read"):
        list(tables)


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    lines(tmp_path / "gt1.jsonl", pair(1))
    assert parts_of(tmp_path / "gt[1].jsonl") == [tmp_path / "gt1.jsonl"]
    lines(tmp_path / "gt[1].jsonl", pair(2))
    assert parts_of(tmp_path / "gt[1].jsonl") == [tmp_path / "gt[1].jsonl"]


@pytest.mark.parametrize(
    ("name", "content", "changes"),
    [
        ("part-00000.json", b"other", True),
        ("part-00003.json", b"no longer empty", True),
        ("part-00005.json", b"", True),
        ("_SUCCESS", b"other", False),
        (".part-00000.json.crc", b"other", False),
    ],
)
def test_the_version_is_that_of_all_parts_and_of_nothing_else(
    folder: Path, name: str, content: bytes, changes: bool
) -> None:
    before = parts_version(folder, folder.parent / "raw_files.json")
    (folder / name).write_bytes(content)
    assert (parts_version(folder, folder.parent / "raw_files.json") != before) == changes


def test_the_version_of_one_file_is_its_own(folder: Path, tmp_path: Path) -> None:
    remembered = tmp_path / "raw_files.json"
    one = folder / "part-00000.json"
    assert parts_version(one, remembered) == file_version(one, remembered)
    assert parts_version(folder, remembered) == parts_version(folder / "part-*", remembered)
    assert parts_version(folder / "gone", remembered) == parts_version(folder / "x*", remembered) == "missing"
