"""Sample files are complete, repeatable to the byte and never half written."""

import gzip
import json
from pathlib import Path

import pytest

from personarank_dagster.sample.files import write_sample_files
from personarank_dagster.sample.generator import SampleDataset, SampleUser

NAMES = {
    "2_summary",
    "2.5_grouped",
    "3.5_history_loo",
    "3.5_persona_with_summary",
    "4_selected_personas",
    "candidate",
    "gt",
    "review",
}


def test_every_file_of_both_schemas_is_written_and_nothing_else(tmp_path: Path) -> None:
    paths = write_sample_files(tmp_path, num_users=10, seed=1)
    expected = {tmp_path / schema / f"{name}.jsonl.gz" for schema in ("amazon", "yelp") for name in NAMES}
    assert set(paths) == expected == {path for path in tmp_path.rglob("*") if path.is_file()}


def test_two_writes_give_the_same_content_and_the_same_bytes(tmp_path: Path) -> None:
    first = write_sample_files(tmp_path / "a", num_users=10, seed=1)
    second = write_sample_files(tmp_path / "b", num_users=10, seed=1)
    for path, again in zip(first, second, strict=True):
        assert gzip.decompress(path.read_bytes()) == gzip.decompress(again.read_bytes())
        assert path.read_bytes() == again.read_bytes()


def test_the_committed_sample_data_is_the_generators_output(tmp_path: Path) -> None:
    committed = Path(__file__).parents[2] / "data" / "sample"
    for path in write_sample_files(tmp_path, num_users=160, seed=13):
        same = committed / path.relative_to(tmp_path)
        # zlib may pack differently from machine to machine; what it packs must not differ.
        assert gzip.decompress(same.read_bytes()) == gzip.decompress(path.read_bytes())
    assert sum(path.stat().st_size for path in committed.rglob("*.gz")) < 3_000_000


def test_gzip_header_has_no_time_and_no_name(tmp_path: Path) -> None:
    path, *_ = write_sample_files(tmp_path, num_users=1, seed=1, schemas=("yelp",))
    flags, time = path.read_bytes()[3], path.read_bytes()[4:8]
    assert (flags, time) == (0, bytes(4))


def test_files_hold_the_rows_of_the_dataset(tmp_path: Path) -> None:
    write_sample_files(tmp_path, num_users=10, seed=1, schemas=("amazon",))
    text = gzip.decompress((tmp_path / "amazon" / "3.5_history_loo.jsonl.gz").read_bytes()).decode()
    assert [json.loads(line) for line in text.splitlines()] == list(SampleDataset("amazon", 10, 1).histories())


def test_a_failed_write_leaves_the_old_files_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = write_sample_files(tmp_path, num_users=10, seed=1, schemas=("yelp",))
    before = {path: path.read_bytes() for path in paths}

    def fail(dataset: SampleDataset, index: int) -> SampleUser:
        raise OSError("disk full")

    monkeypatch.setattr(SampleDataset, "_user", fail)
    with pytest.raises(OSError, match="disk full"):
        write_sample_files(tmp_path, num_users=10, seed=1, schemas=("yelp",))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()} == before
