"""Folders that outlive nothing but a kill."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from personarank_dagster.storage.scratch import LOCK, ScratchFolder, resumable_folder, sweep_scratch

WORK_IN_A_FOLDER = """
import sys, time
from pathlib import Path
from personarank_dagster.storage.scratch import resumable_folder
with resumable_folder(Path(sys.argv[1]), "training") as folder:
    print(folder, flush=True)
    time.sleep(600)
"""


@contextmanager
def working(base: Path) -> Iterator[Path]:
    """Another process works in its folder of this base, until it is killed."""
    command = [sys.executable, "-c", WORK_IN_A_FOLDER, str(base)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield Path(process.stdout.readline().strip())
        process.kill()


def test_what_a_killed_process_had_begun_is_found_again(tmp_path: Path) -> None:
    with working(tmp_path) as folder:
        (folder / "checkpoint").touch()
    with resumable_folder(tmp_path, "training") as found:
        assert (found, (found / "checkpoint").exists()) == (folder, True)
    assert folder.is_dir()


def test_two_at_once_have_folders_of_their_own_and_that_of_the_second_goes(tmp_path: Path) -> None:
    with working(tmp_path) as first, resumable_folder(tmp_path, "training") as second:
        assert first != second
        assert sweep_scratch(tmp_path) == []
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["training"]


def test_the_folder_of_a_second_process_that_was_killed_is_swept(tmp_path: Path) -> None:
    with resumable_folder(tmp_path, "training") as first:
        with working(tmp_path) as second:
            pass
        assert sweep_scratch(tmp_path, only="training") == [second]
        assert first.is_dir()


@pytest.mark.parametrize("make", [ScratchFolder, sweep_scratch])
def test_a_folder_of_a_process_that_was_killed_before_it_had_a_lock_is_swept(tmp_path: Path, make: object) -> None:
    (tmp_path / "left").mkdir()
    kept = make(tmp_path)  # type: ignore[operator]
    assert not (tmp_path / "left").exists()
    del kept


def test_a_sweep_makes_nothing_where_there_is_nothing(tmp_path: Path) -> None:
    assert sweep_scratch(tmp_path / "none") == []
    assert sweep_scratch(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_what_is_kept_and_what_is_locked_stays(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    mine = ScratchFolder(tmp_path / "other")
    assert sweep_scratch(tmp_path, keep={"kept", "other"}) == []
    assert sweep_scratch(tmp_path / "other") == []
    assert (mine.path / LOCK).exists()
    mine.close()
    assert not mine.path.exists()
