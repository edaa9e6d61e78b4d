"""Runs, events and schedules in a real PostgreSQL on loopback, with the configuration of deploy/."""

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from personarank_dagster.definitions import defs
from tests.workspace import ROOT

pytest.importorskip("dagster_postgres", reason="the extra postgres is not installed")

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
pytestmark = pytest.mark.skipif(not PROGRAMS, reason="PostgreSQL is not installed: apt-get install postgresql")


def as_postgres(*command: str) -> str:
    """PostgreSQL does not run as root."""
    user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.getuid() == 0 else []
    ran = subprocess.run([*user, *command], check=True, stdout=subprocess.PIPE, text=True, cwd="/", timeout=60)
    return ran.stdout


@pytest.fixture
def postgres() -> Iterator[int]:
    """Port of a server that lives as long as the test; its user is `dagster`."""
    folder = Path(subprocess.run(["mktemp", "-d"], check=True, capture_output=True, text=True).stdout.strip())
    if os.getuid() == 0:
        os.chown(folder, pwd.getpwnam("postgres").pw_uid, -1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    programs = PROGRAMS[-1].parent
    data = str(folder / "data")
    as_postgres(str(programs / "initdb"), "-D", data, "-U", "dagster", "-A", "trust", "--no-sync")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c fsync=off -k {folder}"
    as_postgres(str(programs / "pg_ctl"), "-D", data, "-o", options, "-l", str(folder / "log"), "-w", "start", "-s")
    as_postgres(str(programs / "createdb"), "-h", "127.0.0.1", "-p", str(port), "-U", "dagster", "dagster")
    yield port
    as_postgres(str(programs / "pg_ctl"), "-D", data, "-m", "immediate", "stop")
    shutil.rmtree(folder)


def test_runs_events_and_schedules_live_in_postgres(
    postgres: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"HOST": "127.0.0.1", "USERNAME": "dagster", "PASSWORD": "unused", "DB": "dagster"}
    for key, value in settings.items():
        monkeypatch.setenv(f"DAGSTER_PG_{key}", value)
    text = (ROOT / "deploy/dagster.yaml").read_text()
    (tmp_path / "dagster.yaml").write_text(text.replace("port: 5432", f"port: {postgres}"))
    monkeypatch.setenv("PERSONARANK_OUT_ROOT", str(tmp_path / "out"))
    job = defs.resolve_job_def("full_refresh_job")
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        selection = [dg.AssetKey("ground_truth")]
        result = job.execute_in_process(instance=instance, partition_key="amazon", asset_selection=selection)
        assert result.success
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        found = instance.get_run_by_id(result.run_id)
        assert found is not None
        assert found.tags["dataset"] == "amazon"
        assert instance.get_latest_materialization_event(dg.AssetKey("ground_truth")).run_id == result.run_id
    query = ["-At", "-c", "select run_id from runs"]
    rows = as_postgres("psql", "-h", "127.0.0.1", "-p", str(postgres), "-U", "dagster", *query, "dagster")
    assert rows.split() == [result.run_id]
