"""One real server for all tests of the UI: `personarank ui` as it is typed, with its daemon."""

import http.client
import json
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from tests.workspace import Workspace


class Server:
    """A running `personarank ui`, and the requests that tests send to it."""

    def __init__(self, workspace: Workspace, *options: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.workspace = workspace
        self.host = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.host}"
        self.process = workspace.start("ui", "--port", str(self.port), *options)
        self.wait_for(self._answers, seconds=60)

    def request(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: Any = None
    ) -> tuple[int, str]:
        """Status and text of a request with exactly these headers, and Host if it is not among them."""
        sent = {"Host": self.host, "Content-Type": "application/json"} | (headers or {})
        content = json.dumps(body).encode() if body is not None else b""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in (sent | {"Content-Length": str(len(content))}).items():
                connection.putheader(name, value)
            connection.endheaders(content)
            response = connection.getresponse()
            return response.status, response.read().decode(errors="replace")

    def graphql(self, query: str, **variables: Any) -> Any:
        status, text = self.request("POST", "/graphql", body={"query": query, "variables": variables})
        assert status == 200, text
        return json.loads(text)["data"]

    def wait_for(self, condition: Any, *, seconds: float) -> Any:
        found = self.becomes(condition, seconds=seconds)
        assert found, f"not within {seconds} s"
        return found

    def becomes(self, condition: Any, *, seconds: float) -> Any:
        """What the condition gives as soon as it holds, or in the end."""
        deadline = time.monotonic() + seconds
        while not (found := condition()) and time.monotonic() < deadline:
            assert self.process.poll() is None, "the server has ended"
            time.sleep(0.3)
        return found

    def end(self, number: signal.Signals) -> None:
        self.process.send_signal(number)
        self.process.wait(20)

    def _answers(self) -> bool:
        try:
            return self.request("GET", "/server_info")[0] == 200
        except OSError:
            return False


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(Workspace(tmp_path_factory.mktemp("ui")))
    yield server
    if server.process.poll() is None:
        server.end(signal.SIGTERM)
