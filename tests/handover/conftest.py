"""A real Redis or Valkey server on a socket of its own."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from personarank_dagster.configuration.export_settings import RedisExport
from personarank_dagster.core import schemas
from personarank_dagster.handover.key_value import connect

SERVER = shutil.which("valkey-server") or shutil.which("redis-server")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisExport]:
    pytest.importorskip("redis", reason="the extra redis is not installed")
    if SERVER is None:
        pytest.skip("there is neither valkey-server nor redis-server")
    folder: Path = tmp_path_factory.mktemp("redis")
    options = ["--port", "0", "--unixsocket", folder / "s", "--save", "", "--dir", folder]
    process = subprocess.Popen([SERVER, *options], stdout=subprocess.DEVNULL)
    while not (folder / "s").exists():
        time.sleep(0.02)
    yield RedisExport(url=f"unix://{folder}/s")
    process.terminate()
    process.wait()


@pytest.fixture
def client(server: RedisExport) -> Iterator[Any]:
    with connect(server) as client:
        client.flushall()
        yield client


def make_lists(scores: dict[str, list[tuple[str, float]]]) -> pl.DataFrame:
    rows = [
        dict.fromkeys(schemas.RERANKED)
        | {"user_id": user, "rank": rank, "item_id": item, "score": score, "candidate_rank": rank, "alpha": 0.5}
        for user, found in scores.items()
        for rank, (item, score) in enumerate(found, 1)
    ]
    return pl.DataFrame(rows, schema=schemas.RERANKED)
