"""What the real server answers to what nobody should send: a 4xx with one sentence, and it goes on."""

import json
import random
import socket
import time

import pytest

from tests.service.conftest import CANDIDATES, Server

GOOD = {"user": "u4", "candidates": CANDIDATES}
WRONG = [
    (b"", 400, "body: is not JSON"),
    (b"{", 400, "body: is not JSON"),
    (b"null", 400, "body: Expected object, got null"),
    (b"[" * 5000, 400, "body: "),
    (b'{"candidates":' + b"[" * 5000, 400, "body: "),
    (b"\xff\xfe", 400, "body: is not JSON"),
    ({}, 400, "body: Object missing required field candidates"),
    (GOOD | {"more": 1}, 400, "body: Object contains unknown field more"),
    (GOOD | {"user": 5}, 400, "body: Expected str | null, got int - at $.user"),
    (GOOD | {"history": []}, 400, "either user or history must be given, got both"),
    ({"candidates": []}, 400, "either user or history must be given, got neither"),
    (GOOD | {"top_n": -1}, 400, "body: Expected int >= 0 - at $.top_n"),
    (GOOD | {"top_n": 10**30}, 400, "body: "),
    (GOOD | {"dataset": "../../etc"}, 404, "unknown dataset '../../etc'; served are amazon"),
    (GOOD | {"candidates": [{"item_id": "i1"}]}, 400, "body: Object missing required field score"),
    (b'{"user":"u","candidates":[{"item_id":"i","score":1e999}]}', 400, ""),
    (b'{"user":"u","candidates":[{"item_id":"i","score":NaN}]}', 400, "body: is not JSON"),
    (b'{"user":"\\ud800","candidates":[]}', 400, ""),
    (GOOD | {"candidates": CANDIDATES * 20}, 413, "candidates must be at most 100, got 120"),
    (GOOD | {"user": "x" * 70_000}, 413, "a body must be at most 65536 bytes"),
    ({"candidates": [], "history": [{"item_id": "x", "timestamp": "yesterday"}]}, 400, "history: timestamp must be"),
]


@pytest.mark.parametrize(("body", "status", "sentence"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_body_is_told_in_one_sentence(server: Server, body, status: int, sentence: str) -> None:
    got, answer, _ = server.request("POST", "/v1/rerank", body)
    assert (got, list(answer)) == (status, ["error"])
    assert answer["error"].startswith(sentence)
    assert "\n" not in answer["error"]
    assert "Traceback" not in server.log.read_text()


def test_random_bodies_are_answered_and_the_service_goes_on(server: Server) -> None:
    rng = random.Random(7)
    good = json.dumps(GOOD).encode()
    for _ in range(1000):
        body = bytearray(good)
        for _ in range(rng.randint(1, 8)):
            place = rng.randrange(len(body))
            body[place : place + rng.randint(0, 4)] = rng.randbytes(rng.randint(0, 4))
        status, answer, _ = server.request("POST", "/v1/rerank", bytes(body))
        assert status in (200, 400, 404, 413), answer
    assert server.rerank()[0] == 200
    assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/rerank", 405),
        ("DELETE", "/v1/rerank", 405),
        ("POST", "/health/live", 405),
        ("GET", "/../../etc/passwd", 404),
        ("GET", "/%2e%2e/%2e%2e/etc/passwd", 404),
        ("GET", "/v1/rerank/", 404),
        ("GET", "//", 404),
        ("GET", "/%ff%00", 404),
        ("GET", "/" + "a" * 8000, 404),
    ],
)
def test_other_paths_and_methods_are_refused(server: Server, method: str, path: str, status: int) -> None:
    assert server.request(method, path)[0] == status


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1"])
def test_pages_of_other_sites_and_other_names_get_nothing(server: Server, origin: str) -> None:
    assert server.request("POST", "/v1/rerank", GOOD, {"Origin": origin})[0] == 403
    assert server.request("POST", "/v1/rerank", GOOD, {"Host": "evil.example"})[0] == 403
    assert server.request("POST", "/v1/rerank", GOOD, {"Origin": f"http://127.0.0.1:{server.port}"})[0] == 200


@pytest.mark.parametrize(
    "sent",
    [b"", b"POST /v1/rerank HT", b"POST /v1/rerank HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: 50\r\n\r\n{"],
)
def test_a_slow_sender_is_told_and_closed(server: Server, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(sent % server.port if b"%d" in sent else sent)
        begun = time.monotonic()
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert time.monotonic() - begun < 15
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert answer.endswith(b'{"error":"the request must arrive within 2 s"}')


@pytest.mark.parametrize(
    "sent", [b"\x16\x03\x01\x02\x00\x01", b"GET\r\n\r\n", b"POST /v1/rerank HTTP/1.1\r\nA\r\n\r\n"]
)
def test_what_is_no_http_is_refused(server: Server, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(sent)
        assert connection.recv(4096).startswith(b"HTTP/1.1 400 ")
    assert server.rerank()[0] == 200


def test_clients_that_go_away_leave_nothing_behind(server: Server) -> None:
    head = b"POST /v1/rerank HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: 5000\r\n\r\n{" % server.port
    for _ in range(50):
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
            connection.sendall(head)
    assert server.rerank()[0] == 200
    assert "Traceback" not in server.log.read_text()
