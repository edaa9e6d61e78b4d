"""Ctrl-C and SIGTERM end a command wherever it is, and nothing of it stays."""

import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest

from tests.forked import environment
from tests.killable import TinyWorkspace, sight

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
# The promise is three seconds; a machine that is busy with other tests gets more.
SECONDS = 15
OPEN = "select count(*) from runs where status in ('NOT_STARTED', 'STARTING', 'STARTED')"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> TinyWorkspace:
    return TinyWorkspace(tmp_path_factory.mktemp("interrupted"))


def started(workspace: TinyWorkspace, temporary: Path, *arguments: str) -> subprocess.Popen[str]:
    """A command as it is typed, with a folder for what libraries write for a while."""
    command = [Path(sys.executable).parent / "personarank", *arguments]
    seen = environment() | {"TMPDIR": str(temporary)}
    return subprocess.Popen(
        command, cwd=workspace.folder, env=seen, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for(process: subprocess.Popen[str], moment: Callable[[], bool]) -> None:
    while not moment():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("number", "pattern"),
    [(signal.SIGINT, "versions/*/amazon/*"), (signal.SIGTERM, "staging/*/checkpoint-*")],
    ids=["publishing", "training"],
)
def test_a_signal_ends_a_run_with_one_sentence_and_leaves_nothing(
    workspace: TinyWorkspace, tmp_path: Path, number: signal.Signals, pattern: str
) -> None:
    seen = sight(workspace.folder / "outputs" / "amazon", pattern)
    run = started(workspace, tmp_path, "run", "--force")
    wait_for(run, seen)
    run.send_signal(number)
    _, said = run.communicate(timeout=SECONDS)
    assert run.returncode == EXIT_CODES[number]
    assert said.count("interrupted: what was published, encoded and checkpointed is kept") == 1
    assert "Traceback" not in said
    assert open_runs(workspace.folder) == 0
    assert not list(workspace.folder.glob("outputs/amazon/versions/*/amazon/.staging-*"))
    assert not [one for one in psutil.process_iter() if is_in(workspace.folder, one)]
    assert not list(tmp_path.iterdir())


def test_a_second_ctrl_c_does_not_wait_for_what_the_first_one_puts_right(
    workspace: TinyWorkspace, tmp_path: Path
) -> None:
    seen = sight(workspace.folder / "outputs" / "amazon", "versions/*/amazon/*")
    run = started(workspace, tmp_path, "run", "--force")
    wait_for(run, seen)
    run.send_signal(signal.SIGINT)
    time.sleep(0.01)
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=SECONDS)
    assert run.returncode == 130
    assert "Traceback" not in said
    assert not [one for one in psutil.process_iter() if is_in(workspace.folder, one)]
    assert workspace.call("run", "--select", "ground_truth").code == 0


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder for sockets, whose path may have a hundred characters."""
    with TemporaryDirectory() as folder:
        yield Path(folder)


def test_ctrl_c_ends_the_ui_with_all_its_processes(workspace: TinyWorkspace, short_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    ui = started(workspace, short_path, "ui", "--port", port)
    assert ui.stdout
    assert "end it with Ctrl-C" in ui.stdout.readline()
    ui.send_signal(signal.SIGINT)
    _, said = ui.communicate(timeout=SECONDS)
    assert ui.returncode == 130
    assert said.splitlines()[-1].startswith("interrupted: the Dagster UI has ended")
    assert not [one for one in psutil.process_iter() if is_in(workspace.folder, one)]
    assert not list(short_path.iterdir())


def test_a_command_that_is_no_run_says_what_it_leaves_itself(workspace: TinyWorkspace, tmp_path: Path) -> None:
    seen = sight(workspace.folder, "made/*/*")
    writing = started(workspace, tmp_path, "sample-data", "--out", "made", "--users", "100000")
    wait_for(writing, seen)
    writing.send_signal(signal.SIGTERM)
    _, said = writing.communicate(timeout=SECONDS)
    sentence = "interrupted: what lies in --out may not be whole; the same command writes it anew\n"
    assert (writing.returncode, said) == (143, sentence)


def open_runs(folder: Path) -> int:
    (database,) = folder.glob(".dagster/storage/**/runs.db")
    with sqlite3.connect(database) as connection:
        count: int = connection.execute(OPEN).fetchone()[0]
    connection.close()
    return count


def is_in(folder: Path, process: psutil.Process) -> bool:
    try:
        return process.cwd() == str(folder) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
