"""A real server process on outputs that are small enough to be made for each test."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from personarank_dagster.core import schemas
from tests.serving.test_reranker import LIST, SETTINGS, publish, publish_caches
from tests.workspace import ROOT

CANDIDATES = [{"item_id": item, "score": score} for item, score in LIST]


def publish_all(root: Path) -> None:
    publish_caches(root, 0)
    publish(root, "reranked_candidates", details=SETTINGS)
    publish(root, "trained_encoder", details={})
    ids = [f"i{n}_P{i}" for n in range(1, 6) for i in range(n % 4)]
    rows = [
        dict.fromkeys(schemas.PERSONAS, "x")
        | {"item_id": one.split("_")[0], "unique_persona_id": one, "name": f"Fan {one}"}
        for one in ids
    ]
    publish(root, "personas", pl.DataFrame(rows, schema=schemas.PERSONAS))


class Server:
    """A running `personarank serve`, and the requests that tests send to it."""

    def __init__(self, folder: Path, *options: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder, self.log = folder, folder / f"log-{self.port}"
        command = [Path(sys.executable).parent / "personarank", "serve", "--port", str(self.port), *options]
        command += ["--config-dir", ROOT / "configs", "--out-root", folder / "outputs"]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)

    def request(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any, dict[str, str]]:
        """Status, body and headers of an answer; JSON is decoded."""
        content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request(method, path, content, headers or {})
            response = connection.getresponse()
            text, told = response.read(), dict(response.getheaders())
        is_json = told.get("content-type") == "application/json"
        return response.status, json.loads(text) if is_json and text else text.decode(), told

    def rerank(self, **fields: Any) -> tuple[int, Any]:
        return self.request("POST", "/v1/rerank", {"user": "u4", "candidates": CANDIDATES} | fields)[:2]

    def becomes(self, condition: Callable[[], Any], seconds: float = 30) -> Any:
        deadline = time.monotonic() + seconds
        while not (found := self._safely(condition)) and time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)
        return found

    def is_ready(self) -> bool:
        return self.request("GET", "/health/ready")[0] == 200

    def lines(self) -> list[dict]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(40)

    @staticmethod
    def _safely(condition: Callable[[], Any]) -> Any:
        try:
            return condition()
        except OSError:
            return None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("service")
    publish_all(folder / "outputs" / "amazon")
    return folder


@pytest.fixture(scope="module")
def start(folder: Path) -> Iterator[Callable[..., Server]]:
    """Start a server and wait until it is ready."""
    started: list[Server] = []

    def begin(*options: str) -> Server:
        started.append(Server(folder, *options))
        assert started[-1].becomes(started[-1].is_ready), started[-1].log.read_text()
        return started[-1]

    yield begin
    for server in started:
        if server.process.poll() is None:
            server.end(signal.SIGKILL)


@pytest.fixture(scope="module")
def server(start: Callable[..., Server]) -> Server:
    return start("--max-candidates", "100", "--max-body-kb", "64", "--timeout", "2")
