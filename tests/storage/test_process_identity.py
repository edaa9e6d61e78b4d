import os
import subprocess
import sys

import psutil

from personarank_dagster.storage.process_identity import is_dead, this_process


def identity(process: subprocess.Popen[bytes]) -> str:
    host, _, _ = this_process().split(":")
    return f"{host}:{process.pid}:{psutil.Process(process.pid).create_time():.0f}"


def test_a_process_is_dead_when_it_has_ended_also_if_nobody_asks_for_its_exit_code() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        known = identity(process)
        assert not is_dead(known)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert is_dead(known)
    assert is_dead(known)


def test_a_process_id_that_is_used_again_is_another_process() -> None:
    host, pid, created = this_process().split(":")
    assert not is_dead(this_process())
    assert is_dead(f"{host}:{pid}:{int(created) - 60}")
    assert not is_dead(f"another machine:{pid}:{created}")
