"""Commands of `personarank` as processes of their own that need no second to start: see `tests/forker.py`."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from subprocess import CompletedProcess

ROOT = Path(__file__).parents[1]
# Of pytest's own environment, what a command is not to see.
UNWANTED = {"DAGSTER_HOME", "PERSONARANK_CONFIG_DIR", "PERSONARANK_OUT_ROOT"}


def environment() -> dict[str, str]:
    """What a command sees in a folder of its own."""
    kept = {key: value for key, value in os.environ.items() if key not in UNWANTED}
    return kept | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"}


def personarank(
    arguments: Sequence[str],
    *,
    folder: Path,
    moment: Callable[[], bool] | None = None,
    constants: Mapping[str, float] | None = None,
) -> CompletedProcess[str]:
    """Run a command in a folder, with other constants in its modules; kill it as soon as the moment is there."""
    with tempfile.TemporaryDirectory() as place:
        outputs = [f"{place}/stdout", f"{place}/stderr"]
        request = {"arguments": arguments, "folder": str(folder), "environment": environment(), "outputs": outputs}
        code = _ask(request | {"constants": constants or {}}, moment)
        return CompletedProcess([*arguments], code, *(Path(path).read_text() for path in outputs))


def _ask(request: Mapping[str, object], moment: Callable[[], bool] | None) -> int:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(300)
        connection.connect(_forker()[0])
        with connection.makefile("rw") as answers:
            print(json.dumps(request), file=answers, flush=True)
            pid = int(answers.readline())
            if moment:
                _kill(pid, moment)
            try:
                return int(answers.readline())
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                raise


def _kill(pid: int, moment: Callable[[], bool]) -> None:
    with suppress(ProcessLookupError):
        while not moment():
            os.kill(pid, 0)
            time.sleep(0.001)
        os.kill(pid, signal.SIGKILL)


@cache
def _forker() -> tuple[str, subprocess.Popen[str]]:
    """The one process of this one that forks, and its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.forker"], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    with process.stdout as said:
        return said.readline().strip(), process
