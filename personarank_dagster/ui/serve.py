"""The Dagster UI on this machine: code server, daemon and webserver as `dagster dev` starts them, guarded."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import dagster as dg
import uvicorn
import yaml
from dagster._cli.proxy_server_manager import ProxyServerManager
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import ModuleTarget, WorkspaceFileTarget
from dagster_webserver.app import create_app_from_workspace_process_context

from personarank_dagster.core.errors import ConfigError
from personarank_dagster.core.origins import LOOPBACK, own_origins
from personarank_dagster.definitions import project
from personarank_dagster.defs.automation.instances import open_instance
from personarank_dagster.defs.automation.runs import end_dead_runs
from personarank_dagster.ui.guard import Guard

PR_SET_PDEATHSIG = 1

# Of `dagster-webserver`: milliseconds for a statement, seconds for a connection, connections beyond the pool.
DATABASE_LIMITS = (15_000, 3_600, 20)


def serve(*, port: int, read_only: bool, public_url: str | None) -> None:
    """Serve the UI until this process is killed. Raises ConfigError if the port is taken.

    With `read_only` no daemon is started, so that it can stand beside a server that has one.
    """
    os.environ["DAGSTER_DISABLE_TELEMETRY"] = "1"
    _check_free(port)
    with ExitStack() as stack:
        instance, mount = stack.enter_context(open_instance()), project.mount
        location = ModuleTarget(mount.module, None, str(Path.cwd()), mount.location)
        code_server = stack.enter_context(ProxyServerManager(instance, location, "warning"))
        workspace = stack.enter_context(_workspace_file(code_server))
        if not read_only:
            end_dead_runs(instance)
            stack.enter_context(_daemon(workspace))
        instance.optimize_for_webserver(*DATABASE_LIMITS)
        context = stack.enter_context(
            WorkspaceProcessContext(
                instance, WorkspaceFileTarget([str(workspace)]), version=dg.__version__, read_only=read_only
            )
        )
        app = Guard(create_app_from_workspace_process_context(context), own_origins(port, public_url))
        _listen(uvicorn.Config(app, LOOPBACK, port, log_level="warning", proxy_headers=False, server_header=False))


def _listen(config: uvicorn.Config) -> None:
    print(f"The Dagster UI is on http://{LOOPBACK}:{config.port}; end it with Ctrl-C", flush=True)
    uvicorn.Server(config).run()


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise ConfigError(
                f"--port {port}: {error.strerror}; is the UI open already? Take another port"
            ) from error


@contextmanager
def _workspace_file(code_server: ProxyServerManager) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "workspace.yaml"
        path.write_text(yaml.safe_dump({"load_from": list(code_server.get_code_server_specs())}))
        yield path


@contextmanager
def _daemon(workspace: Path) -> Iterator[None]:
    """The process that starts queued runs, backfills, schedules and sensors."""
    command = [
        sys.executable,
        "-m",
        "dagster._daemon",
        "run",
        "--log-level",
        "warning",
        "--workspace",
        str(workspace),
    ]
    process = subprocess.Popen(command, preexec_fn=_end_with_parent)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def _end_with_parent() -> None:
    """Let a child end even if its parent is killed; only Linux can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
