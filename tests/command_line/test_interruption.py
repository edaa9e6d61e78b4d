"""Ctrl-C and SIGTERM end a command wherever it is, and nothing of it stays."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

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


@pytest.mark.parametrize(
    ("number", "pattern"),
    [
        (signal.SIGINT, "versions/*/amazon/*"),
    ],
)
def test_a_signal_ends_a_run_with_one_sentence_and_leaves_nothing(
    workspace: TinyWorkspace, number: signal.Signals, pattern: str
) -> None:
    command = [Path(sys.executable).parent / "personarank", "run", "--force"]
    seen = sight(workspace.folder / "outputs" / "amazon", pattern)
    run = subprocess.Popen(command, cwd=workspace.folder, env=environment(), stderr=subprocess.PIPE, text=True)
    while not seen() and run.poll() is None:
        time.sleep(0.01)
    run.send_signal(number)
    _, said = run.communicate(timeout=SECONDS)
    assert run.returncode == EXIT_CODES[number]
    assert said.splitlines()[-1].startswith("interrupted: ")
    assert "Traceback" not in said
    assert open_runs(workspace.folder) == 0
    assert not list(workspace.folder.glob("outputs/amazon/versions/*/amazon/.staging-*"))
    assert not [one for one in psutil.process_iter() if is_run_of(workspace.folder, one)]


def open_runs(folder: Path) -> int:
    (database,) = folder.glob(".dagster/storage/**/runs.db")
    with sqlite3.connect(database) as connection:
        count: int = connection.execute(OPEN).fetchone()[0]
    connection.close()
    return count


def is_run_of(folder: Path, process: psutil.Process) -> bool:
    try:
        return process.cwd() == str(folder) and "run" in process.cmdline() and process.pid != os.getpid()
    except psutil.Error:
        return False
