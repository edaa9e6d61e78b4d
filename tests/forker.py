"""A process of which `personarank` is forked, as killable as if it was typed: libraries are loaded once for all.

Each connection to its socket is one command, a line of JSON: the arguments, the folder, the environment, the files
for what is printed, and other constants in modules (`{"module:NAME": value}`). The answer is the process id, and the
exit code when that process is gone.
"""

import gc
import importlib
import json
import os
import socketserver
import sys
import tempfile
import traceback
from pathlib import Path

from tests.databases import keep_engines_and_migrations

# Modules that look at the configured datasets when they are loaded, and whatever uses those.
OF_DATASETS = (
    "personarank_dagster.command_line",
    "personarank_dagster.component",
    "personarank_dagster.definitions",
    "personarank_dagster.defs",
)

# What else a run loads when it comes to it.
LOADED = (
    "personarank_dagster.command_line.console",
    "personarank_dagster.encoding.train",
    "personarank_dagster.ranking.kernels",
    "dagster._core.storage.local_compute_log_manager",
    "dagster._core.storage.sqlite_storage",
    "dagster._daemon.daemon",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "sqlalchemy.dialects.sqlite",
    "PIL.PngImagePlugin",
)


class Command(socketserver.StreamRequestHandler):
    """One command, in a process of its own beside the one that waits for its end."""

    def handle(self) -> None:
        request = json.loads(self.rfile.readline())
        pid = os.fork()
        if pid == 0:
            _run(**request)
        self._answer(pid)
        self._answer(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    def _answer(self, number: int) -> None:
        self.wfile.write(f"{number}\n".encode())


class Forker(socketserver.ForkingMixIn, socketserver.UnixStreamServer):
    """Forks for each connection, and ends with the process that started it."""

    parent = os.getppid()

    def service_actions(self) -> None:
        super().service_actions()
        if os.getppid() != self.parent:
            sys.exit()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, Forker(str(Path(folder) / "socket"), Command) as forker:
        print(forker.server_address, flush=True)
        _load()
        forker.serve_forever()


def _load() -> None:
    """Load all that runs use; modules that know the datasets are loaded anew by each command."""
    for name in LOADED:
        importlib.import_module(name)
    keep_engines_and_migrations()
    for name in [name for name in sys.modules if name.startswith(OF_DATASETS)]:
        del sys.modules[name]
    gc.collect()
    gc.freeze()


def _run(
    arguments: list[str],
    folder: str,
    environment: dict[str, str],
    outputs: list[str],
    constants: dict[str, float],
) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    _redirect(outputs)
    code = 1
    try:
        _command(arguments, constants)
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def _redirect(outputs: list[str]) -> None:
    """Standard output and error into these files, or into one."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    for number, path in enumerate(outputs, start=1):
        os.dup2(os.open(path, flags), number)


def _command(arguments: list[str], constants: dict[str, float]) -> None:
    from personarank_dagster.command_line.cli import main as personarank

    for place, value in constants.items():
        module, name = place.split(":")
        setattr(importlib.import_module(module), name, value)
    personarank(arguments)


if __name__ == "__main__":
    main()
