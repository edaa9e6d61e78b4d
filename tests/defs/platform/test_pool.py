"""Two processes that want the one slot of the pool: real processes, one of them killed."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

from personarank_dagster.defs.automation.runs import end_dead_runs
from tests.workspace import ROOT

PROGRAM = """
import sys, time
import dagster as dg
from personarank_dagster.defs.platform.lineage.run_tags import PROCESS_TAG
from personarank_dagster.storage.process_identity import this_process

@dg.asset(pool="gpu")
def heavy():
    time.sleep(float(sys.argv[1]))

with dg.DagsterInstance.get() as instance:
    dg.materialize([heavy], instance=instance, tags={PROCESS_TAG: this_process(), "name": sys.argv[2]})
"""


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "dagster.yaml", tmp_path)
    (tmp_path / "program.py").write_text(PROGRAM)
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        yield instance


def start(home: Path, seconds: float, name: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "DAGSTER_HOME": str(home), "PERSONARANK_CONFIG_DIR": str(ROOT / "configs")}
    command = [sys.executable, f"{home}/program.py", str(seconds), name]
    return subprocess.Popen(command, cwd=home, env=environment, stderr=subprocess.DEVNULL)


def step_times(instance: dg.DagsterInstance, name: str) -> dict[dg.DagsterEventType, float]:
    """When the step of the run with this name began and ended, as far as it did."""
    wanted = {dg.DagsterEventType.STEP_START, dg.DagsterEventType.STEP_SUCCESS}
    runs = instance.get_runs(dg.RunsFilter(tags={"name": name}))
    logs = [entry for run in runs for entry in instance.all_logs(run.run_id, of_type=wanted)]
    return {entry.dagster_event.event_type: entry.timestamp for entry in logs if entry.dagster_event}


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_two_processes_do_not_overlap(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    processes = [start(tmp_path, 2, name) for name in ("one", "two")]
    assert [process.wait(90) for process in processes] == [0, 0]
    spans = sorted(sorted(step_times(instance, name).values()) for name in ("one", "two"))
    assert [len(span) for span in spans] == [2, 2]
    assert spans[0][1] <= spans[1][0]


def test_after_a_kill_the_other_goes_on(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    killed = start(tmp_path, 600, "killed")
    wait_for(lambda: step_times(instance, "killed"))
    waiting = start(tmp_path, 0, "waiting")
    wait_for(lambda: instance.get_runs(dg.RunsFilter(tags={"name": "waiting"})))
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert step_times(instance, "waiting") == {}
    holder = instance.event_log_storage.get_concurrency_info("gpu").active_run_ids
    assert end_dead_runs(instance) == list(holder)
    assert instance.event_log_storage.get_concurrency_info("gpu").active_run_ids.isdisjoint(holder)
    assert waiting.wait(90) == 0
    assert dg.DagsterEventType.STEP_SUCCESS in step_times(instance, "waiting")
