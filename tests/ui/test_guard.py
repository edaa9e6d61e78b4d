"""Attacks on the real server: what a page of another site, or a hostile run configuration, would try."""

import re
import signal
import socket
from collections.abc import Iterator

import psutil
import pytest

from tests.ui.conftest import Server

LAUNCH = """mutation($params: ExecutionParams!) { launchRun(executionParams: $params) {
  __typename
  ... on RunConfigValidationInvalid { errors { message } }
  ... on PythonError { message }
  ... on LaunchRunSuccess { run { runId } }
} }"""
SHUT_DOWN = 'mutation { shutdownRepositoryLocation(repositoryLocationName: "personarank_dagster") { __typename } }'


@pytest.fixture(scope="module")
def read_only(server: Server) -> Iterator[Server]:
    """A second server beside the first."""
    second = Server(server.workspace, "--read-only", "--public-url", "https://ui.example.org/")
    yield second
    second.end(signal.SIGKILL)


def upgrade(server: Server, origin: str | None) -> int:
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Protocol": "graphql-ws",
    } | ({"Origin": origin} if origin else {})
    lines = [
        f"GET /graphql HTTP/1.1\r\nHost: {server.host}\r\n",
        *(f"{k}: {v}\r\n" for k, v in headers.items()),
        "\r\n",
    ]
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall("".join(lines).encode())
        return int(connection.recv(64).split()[1])


def launch(server: Server, run_config: dict) -> dict:
    selector = {
        "repositoryLocationName": "personarank_dagster",
        "repositoryName": "__repository__",
        "jobName": "full_refresh_job",
    }
    tags = [{"key": "dagster/partition", "value": "amazon"}]
    params = {"selector": selector, "runConfigData": run_config, "executionMetadata": {"tags": tags}}
    return server.graphql(LAUNCH, params=params)["launchRun"]


@pytest.mark.parametrize("path", ["/", "/server_info", "/graphql", "/logs/a/b.out", "/download_debug/x"])
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example:{port}", "127.0.0.1:1"]
)
def test_a_name_that_was_bound_to_this_machine_reads_nothing(server: Server, path: str, host: str) -> None:
    host = host.format(port=server.port)
    status, text = server.request("GET", path, {"Host": host, "Origin": f"http://{host}"})
    assert status == 403
    assert text.startswith("Host must be one of")


def test_two_host_headers_or_none_are_refused(server: Server) -> None:
    for hosts in ([server.host, "evil.example"], []):
        lines = ["GET /server_info HTTP/1.1", *(f"Host: {host}" for host in hosts), "Connection: close", "", ""]
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
            connection.sendall("\r\n".join(lines).encode())
            assert int(connection.recv(64).split()[1]) in (400, 403)


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1:{port}"])
def test_a_page_of_another_site_changes_nothing(server: Server, origin: str) -> None:
    origin = origin.format(port=server.port)
    body = {"query": SHUT_DOWN}
    for content_type in ("application/json", "text/plain", "application/graphql"):
        status, text = server.request("POST", "/graphql", {"Origin": origin, "Content-Type": content_type}, body)
        assert status == 403
        assert text.startswith("Origin must be one of")
    assert server.request("POST", "/report_asset_materialization/personas", {"Origin": origin}, {})[0] == 403
    assert upgrade(server, origin) == 403


def test_its_own_pages_and_programs_are_answered(server: Server) -> None:
    assert server.request("GET", "/", {"Host": f"localhost:{server.port}"})[0] == 200
    assert server.request("POST", "/graphql", {"Origin": server.url}, {"query": "{ version }"})[0] == 200
    assert server.graphql("{ version }")["version"].startswith("1.")
    assert upgrade(server, server.url) == upgrade(server, None) == 101


def test_nothing_is_run_that_stands_in_an_address(server: Server) -> None:
    query = "mutation%20%7B%20reloadWorkspace%20%7B%20__typename%20%7D%20%7D"
    for method in ("GET", "POST", "HEAD"):
        assert server.request(method, f"/graphql?query={query}")[0] == 403
        assert server.request(method, f"/graphql?%71uery={query}")[0] == 403


def test_no_page_shows_the_ui_inside_of_its_own(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(f"GET / HTTP/1.1\r\nHost: {server.host}\r\nConnection: close\r\n\r\n".encode())
        assert b"x-frame-options: DENY" in connection.recv(4096)


def test_no_file_outside_of_the_logs_is_given(server: Server) -> None:
    for path in (
        "/logs/../dagster.yaml",
        "/logs/..%2f..%2fdagster.yaml",
        "/logs/%2e%2e/%2e%2e/dagster.yaml",
        "/logs//etc/passwd",
    ):
        assert "sqlite" not in (found := server.request("GET", path)[1])
        assert "root:" not in found


def test_only_this_machine_is_listened_to(server: Server) -> None:
    processes = [
        server.process.pid,
        *(child.pid for child in psutil.Process(server.process.pid).children(recursive=True)),
    ]
    listening = [
        one for pid in processes for one in psutil.Process(pid).net_connections("inet") if one.status == "LISTEN"
    ]
    assert {one.laddr.ip for one in listening} == {"127.0.0.1"}


def test_nothing_is_reported_to_anyone(server: Server) -> None:
    assert '"telemetryEnabled": false' in server.request("GET", "/")[1]


@pytest.mark.parametrize(
    "resources",
    [
        {"project": {"config": {"out_root": "/etc"}}},
        {"io_manager": {"config": {"base_dir": "/etc"}}},
        {"gpu": {"config": {"device": "cuda:0; rm"}}},
        {"gpu": {"config": {"st_path": "evil/model"}}},
        {"gpu": {"config": {"precision": "int1"}}},
        {"gpu": {"config": {"devices": "many"}}},
        {"progress": {"config": {"log_file": "/etc/passwd"}}},
    ],
)
def test_run_configuration_has_no_paths_no_models_and_no_free_text(server: Server, resources: dict) -> None:
    assert launch(server, {"resources": resources})["__typename"] == "RunConfigValidationInvalid"


@pytest.mark.parametrize(
    ("config", "rule"),
    [
        ({"devices": -1}, "gpu.devices must be greater than or equal to 0, got -1"),
        ({"devices": 65}, "gpu.devices must be less than or equal to 64, got 65"),
        ({"memory_share": 2.0}, "gpu.memory_share must be less than or equal to 1, got 2.0"),
    ],
)
def test_numbers_out_of_bounds_are_refused_at_the_launch(server: Server, config: dict, rule: str) -> None:
    count = "{ runsOrError { ... on Runs { count } } }"
    before = server.graphql(count)
    with pytest.raises(AssertionError, match=f'"PythonError","message":".*: {re.escape(rule)}'):
        launch(server, {"resources": {"gpu": {"config": config}}})
    assert server.graphql(count) == before


def test_a_read_only_server_shows_everything_and_changes_nothing(read_only: Server) -> None:
    assert launch(read_only, {})["__typename"] == "UnauthorizedError"
    assert read_only.request("POST", "/report_asset_materialization/personas", body={})[0] == 401
    assert read_only.graphql("{ version }")["version"]


def test_the_address_of_a_proxy_is_answered_when_it_is_given(read_only: Server) -> None:
    headers = {"Host": "ui.example.org", "Origin": "https://ui.example.org"}
    assert read_only.request("POST", "/graphql", headers, {"query": "{ version }"})[0] == 200
    assert read_only.request("POST", "/graphql", headers | {"Origin": "http://ui.example.org"}, {})[0] == 403


def test_a_taken_port_is_an_error_of_one_line(server: Server) -> None:
    second = server.workspace.call("ui", "--port", str(server.port))
    assert second.returncode == 1
    assert second.stderr.startswith(f"Error: --port {server.port}: ")
    assert len(second.stderr.splitlines()) == 1
