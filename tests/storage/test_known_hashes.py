import os
from pathlib import Path

import pytest

from personarank_dagster.storage import known_hashes as file_hashes
from personarank_dagster.storage.known_hashes import file_version


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files that were hashed, in order."""
    found: list[Path] = []
    real = file_hashes.file_sha256

    def count(path: Path) -> str:
        found.append(path)
        return real(path)

    monkeypatch.setattr(file_hashes, "file_sha256", count)
    # Files of this test are as old as the hashes.
    monkeypatch.setattr(file_hashes, "SETTLED_NANOSECONDS", -(10**10))
    return found


def test_an_unchanged_file_is_hashed_once_and_a_changed_one_again(tmp_path: Path, hashed: list[Path]) -> None:
    path, remembered = tmp_path / "gt.jsonl", tmp_path / "out" / "raw_files.json"
    path.write_text("one")
    first = file_version(path, remembered)
    assert file_version(path, remembered) == first
    assert hashed == [path]
    old = path.stat()
    path.write_text("two")
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))  # as long, and as old, as before
    assert file_version(path, remembered) != first
    assert hashed == [path, path]


def test_a_file_that_changed_just_before_it_was_hashed_is_hashed_again(
    tmp_path: Path, hashed: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_hashes, "SETTLED_NANOSECONDS", 10**10)
    path = tmp_path / "gt.jsonl"
    path.write_text("one")
    assert len({file_version(path, tmp_path / "raw_files.json") for _ in range(2)}) == 1
    assert hashed == [path, path]


def test_what_is_remembered_may_be_broken_or_not_writable(tmp_path: Path, hashed: list[Path]) -> None:
    path, remembered = tmp_path / "gt.jsonl", tmp_path / "raw_files.json"
    path.write_text("one")
    remembered.write_text('{"broken": ')
    version = file_version(path, remembered)
    (tmp_path / "file").touch()
    assert file_version(path, tmp_path / "file" / "raw_files.json") == version
    assert file_version(path, remembered) == version


def test_a_file_that_is_not_there_has_a_version_that_says_so(tmp_path: Path) -> None:
    assert file_version(tmp_path / "gone", tmp_path / "raw_files.json") == "missing"
    assert file_version(tmp_path, tmp_path / "raw_files.json") == "not a file"
