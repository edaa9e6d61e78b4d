"""How the real server is run: access, experiments, new versions, workers, and how it ends."""

import json
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from personarank_dagster.core.errors import ConfigError
from personarank_dagster.service.experiment.arms import Arms
from personarank_dagster.service.settings import Settings, read_token
from tests.service.conftest import CANDIDATES, Server, publish_all
from tests.serving.test_reranker import publish_caches

Start = Callable[..., Server]
TOKEN = "a-token-that-is-long-enough"


def test_a_token_is_needed_for_all_but_health(start: Start, folder: Path) -> None:
    (folder / "token").write_text(f"{TOKEN}\n")
    server = start("--token-file", str(folder / "token"))
    good = {"Authorization": f"Bearer {TOKEN}"}
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}):
        status, answer, told = server.request("GET", "/metrics", None, headers)
        assert (status, told["www-authenticate"]) == (401, "Bearer")
        assert TOKEN not in answer["error"]
    assert server.request("GET", "/metrics", None, good)[0] == 200
    assert server.request("POST", "/v1/rerank", {"user": "u4", "candidates": CANDIDATES}, good)[0] == 200
    assert server.request("GET", "/health/live")[0] == 200


def test_any_address_but_loopback_needs_a_token(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--host 0\.0\.0\.0: needs --token-file"):
        Settings(host="0.0.0.0")
    assert [Settings(host=host).is_loopback for host in ("127.0.0.1", "::1", "localhost")] == [True] * 3
    for text in ("short", "two words that are long", ""):
        (tmp_path / "token").write_text(text)
        with pytest.raises(ConfigError, match="must hold one word of at least 16"):
            read_token(tmp_path / "token")


def test_a_share_of_users_is_the_same_everywhere_and_about_that_large() -> None:
    arms = Arms(share=0.1)
    new = [user for user in range(10_000) if arms.of("amazon", f"u{user}") == "reranked"]
    assert 900 < len(new) < 1100
    assert all(Arms(share=0.2).of("amazon", f"u{user}") == "reranked" for user in new)
    assert {Arms(share=share).of("amazon", "u1") for share in (0.0, 1.0)} == {"candidates", "reranked"}


def impressions(folder: Path) -> list[dict]:
    return [json.loads(line) for path in sorted(folder.glob("*.jsonl*")) for line in path.read_text().splitlines()]


def test_a_shadow_passes_all_through_and_logs_both_orders(start: Start, folder: Path, server: Server) -> None:
    shadow = start("--shadow", "--impressions", str(folder / "shadow"))
    told = shadow.rerank(top_n=3)[1]
    assert [one["item_id"] for one in told["results"]] == ["i1", "i2", "i3"]
    assert (told["arm"], told["note"]) == ("shadow", "passed through without reranking")
    (line,) = shadow.becomes(lambda: impressions(folder / "shadow"))
    new = [[one["item_id"], one["relevance_score"]] for one in server.rerank(top_n=3)[1]["results"]]
    assert (line["reranked"], line["recommendation_id"]) == (new, told["recommendation_id"])
    assert line["candidates"] == [[one["item_id"], one["score"]] for one in CANDIDATES[:3]]


def test_impressions_know_users_by_a_keyed_hash_and_files_end_whole(start: Start, folder: Path) -> None:
    server = start("--impressions", str(folder / "shown"), "--share", "0.5")
    told = {user: server.rerank(user=user)[1] for user in ("u1", "u2", "u3", "u4", "u5")}
    server.rerank(user="u1")
    assert server.end() == 0
    assert not list((folder / "shown").glob("*.part"))
    lines = impressions(folder / "shown")
    assert [line["arm"] for line in lines[:5]] == [answer["arm"] for answer in told.values()]
    assert {answer["arm"] for answer in told.values()} == {"reranked", "candidates"}
    assert (len({line["user"] for line in lines}), lines[0]["user"]) == (5, lines[5]["user"])
    assert not any(user in json.dumps(lines) for user in ('"u1"', '"u4"'))
    assert (folder / "shown" / ".key").stat().st_mode & 0o777 == 0o600


def test_too_many_requests_at_a_time_are_told_to_come_again(start: Start) -> None:
    server = start("--max-in-flight", "2")
    head = b"POST /v1/rerank HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: 50\r\n\r\n{" % server.port
    waiting = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(2)]
    for connection in waiting:
        connection.sendall(head)
    assert server.becomes(lambda: server.rerank()[0] == 429)
    status, answer, told = server.request("POST", "/v1/rerank", {"user": "u4", "candidates": CANDIDATES})
    assert (status, told["retry-after"], answer["error"]) == (429, "1", "2 requests are in work")
    assert server.request("GET", "/health/live")[0] == 200
    for connection in waiting:
        connection.close()
    assert server.becomes(lambda: server.rerank()[0] == 200)


def test_a_version_that_is_published_meanwhile_fails_no_request(start: Start, folder: Path) -> None:
    server, statuses, ended = start(), [], threading.Event()
    first = server.rerank()[1]

    def ask() -> None:
        while not ended.is_set():
            statuses.append(server.rerank()[0])

    asking = [threading.Thread(target=ask) for _ in range(3)]
    for thread in asking:
        thread.start()
    publish_caches(folder / "outputs/amazon", 3, "new", "interaction_cache")
    publish_caches(folder / "outputs/amazon", 3, "new", "persona_cache")
    assert server.becomes(lambda: server.rerank()[1]["version"] != first["version"])
    ended.set()
    for thread in asking:
        thread.join()
    assert {*statuses} == {200}
    publish_all(folder / "outputs/amazon")


def test_a_dataset_that_is_not_published_yet_is_waited_for(tmp_path: Path) -> None:
    server = Server(tmp_path, "--dataset", "amazon")
    try:
        assert server.becomes(lambda: server.request("GET", "/health/ready")[0] == 503)
        status, answer, told = server.request("POST", "/v1/rerank", {"user": "u1", "candidates": []})
        assert (status, told["retry-after"]) == (503, "5")
        assert answer["error"].startswith("dataset amazon is not ready: ")
        publish_all(tmp_path / "outputs/amazon")
        assert server.becomes(server.is_ready)
    finally:
        server.end()


def test_sigterm_answers_what_has_come_and_ends_with_0(start: Start) -> None:
    server = start()
    body = json.dumps({"user": "u4", "candidates": CANDIDATES}).encode()
    head = b"POST /v1/rerank HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: %d\r\n\r\n" % (server.port, len(body))
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(head + body[:10])
        time.sleep(0.5)
        server.process.send_signal(signal.SIGTERM)
        assert server.becomes(lambda: not _listens(server.port))
        connection.sendall(body[10:])
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 OK")
    assert server.process.wait(20) == 0
    assert "Traceback" not in server.log.read_text()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_workers_share_a_port_and_their_counts_and_one_that_dies_is_replaced(start: Start) -> None:
    server = start("--workers", "2")
    first = {child.pid for child in psutil.Process(server.process.pid).children()}
    for _ in range(30):
        assert server.rerank()[0] == 200
    counted = [line for line in server.request("GET", "/metrics")[1].splitlines() if line.endswith('rerank"} 30')]
    assert counted == ['personarank_request_seconds_count{route="rerank"} 30']
    psutil.Process(min(first)).kill()
    assert server.becomes(lambda: {c.pid for c in psutil.Process(server.process.pid).children()} - first)
    assert server.becomes(server.is_ready)
    assert server.end() == 0
    assert not any(psutil.pid_exists(pid) for pid in first)


def test_a_taken_port_is_an_error_of_one_line(server: Server, folder: Path) -> None:
    second = Server(folder, "--port", str(server.port))
    assert second.process.wait(30) == 1
    assert second.log.read_text().startswith(f"Error: --host 127.0.0.1 --port {server.port}: Address already in use")
