"""Reranking over HTTP with `wrk`: a worker on one core, the client on another, against the bare call."""

import json
import os
import re
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl
import psutil

from benchmarks.one_user import MADE_WITH
from personarank_dagster.core import schemas
from personarank_dagster.defs.graph import output_format
from personarank_dagster.serving.reranker import Reranker
from personarank_dagster.storage.manifests import Provenance
from personarank_dagster.storage.versions import VersionStore
from personarank_dagster.vectors.embeddings import CacheTable

ITEMS, PERSONAS, USERS, INTERACTIONS, DIMENSION, CANDIDATES = 20_000, 5, 10_000, 10, 384, 20
LISTS, CONNECTIONS, SECONDS, PORT = 2_000, 64, 6, 18_765
# Requests a second that come whether or not the ones before are answered, as those of users do.
PACES = 1_000, 2_500, 5_000
SCRIPT = """bodies = {%s}
local i = 0
wrk.method = "POST"
function request() i = i %% #bodies + 1 return wrk.format(nil, nil, nil, bodies[i]) end
"""


def main() -> None:
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed")
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
        root = Path(folder) / "outputs" / "amazon"
        _publish(root)
        lists = _lists()
        bare = _bare(root, lists, cores[0])
        with _server(Path(folder), cores[0]) as process:
            for explain in (False, True):
                script = _script(Path(folder), lists, explain=explain)
                _report(process, bare[explain], script, cores[-1], "explained" if explain else "plain")
            for rate in PACES:
                _paced(lists, rate, cores[-1])
            before = process.memory_info().rss
            thread = threading.Thread(target=lambda: (time.sleep(SECONDS / 3), _publish(root)))
            thread.start()
            script = _script(Path(folder), lists, explain=False)
            _report(process, bare[False], script, cores[-1], "plain, a version published meanwhile")
            thread.join()
            print(f"memory: {before >> 20} MiB, then {process.memory_info().rss >> 20} MiB")


def _report(process: psutil.Process, bare: float, script: Path, core: int, name: str) -> None:
    spent = sum(process.cpu_times()[:2])
    command = [
        "taskset",
        "-c",
        str(core),
        "wrk",
        "-t1",
        f"-c{CONNECTIONS}",
        f"-d{SECONDS}s",
        "--latency",
        "-s",
        script,
    ]
    told = subprocess.run(
        [*command, f"http://127.0.0.1:{PORT}/v1/rerank"], check=True, capture_output=True, text=True
    ).stdout
    rate = float(re.findall(r"Requests/sec: +([\d.]+)", told)[0])
    p50, p99 = (re.findall(rf"{share}% +(\S+)", told)[0] for share in (50, 99))
    count = int(re.findall(r"(\d+) requests in", told)[0])
    failed = "".join(re.findall(r"Non-2xx.*|Socket errors.*", told)) or "none failed"
    cpu = (sum(process.cpu_times()[:2]) - spent) / count * 1e6
    share = rate * bare / 1e6
    print(
        f"{name}: {rate:,.0f} requests/s (bare call {1e6 / bare:,.0f}/s, {share:.2f} of it), {p50} and p99 {p99} "
        f"at {CONNECTIONS} connections, {cpu:.0f} us of its core a request, {failed}"
    )


def _paced(lists: list, rate: int, core: int) -> None:
    """Milliseconds from when a request was due to its whole answer, where so many come a second, evenly spaced."""
    os.sched_setaffinity(0, {core})
    requests = [_request(body) for body in _bodies(lists, explain=False)]
    connections = [socket.create_connection(("127.0.0.1", PORT)) for _ in range(CONNECTIONS)]
    free, waiting, due_of, found = list(connections), {}, {}, []
    poll = select.epoll()
    for connection in connections:
        connection.setblocking(False)
        poll.register(connection, select.EPOLLIN)
        waiting[connection.fileno()] = connection
    begun = time.perf_counter()
    for number in range(rate * SECONDS):
        due = begun + number / rate
        while time.perf_counter() < due or not free:
            for descriptor, _ in poll.poll(0):
                connection = waiting[descriptor]
                if _is_whole(connection):
                    found.append(time.perf_counter() - due_of[descriptor])
                    free.append(connection)
        connection = free.pop()
        due_of[connection.fileno()] = due
        connection.send(requests[number % len(requests)])
    p50, p99 = np.percentile(found, [50, 99]) * 1000
    print(f"plain, {rate:,} a second: p50 {p50:.2f} ms, p99 {p99:.2f} ms at {CONNECTIONS} connections")


def _request(body: str) -> bytes:
    return f"POST /v1/rerank HTTP/1.1\r\nHost: 127.0.0.1:{PORT}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


def _is_whole(connection: socket.socket) -> bool:
    answer = connection.recv(1 << 16)
    while not answer.endswith(b"}"):
        select.select([connection], [], [])
        answer += connection.recv(1 << 16)
    return answer.startswith(b"HTTP/1.1 200") or sys.exit(answer.decode())


def _bare(root: Path, lists: list, core: int) -> dict[bool, float]:
    """Microseconds of a call of `Reranker`, the median of the rounds."""
    os.sched_setaffinity(0, {core})
    reranker = Reranker.open(root)
    found = {}
    for explain in (False, True):
        rounds = []
        for _ in range(4):
            started = time.perf_counter()
            for user, candidates in lists:
                reranker.rerank(user, candidates, explain=explain)
            rounds.append((time.perf_counter() - started) / len(lists) * 1e6)
        found[explain] = sorted(rounds)[1]
    return found


@contextmanager
def _server(folder: Path, core: int) -> Iterator[psutil.Process]:
    command = [Path(sys.executable).parent / "personarank", "serve", "--dataset", "amazon", "--port", str(PORT)]
    command += ["--config-dir", "configs", "--out-root", folder / "outputs", "--no-access-log"]
    server = subprocess.Popen(["taskset", "-c", str(core), *command])
    try:
        _await_ready()
        yield psutil.Process(server.pid)
    finally:
        server.terminate()
        server.wait()


def _await_ready() -> None:
    for _ in range(300):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{PORT}/health/ready").close()
            return
        except OSError:
            time.sleep(0.1)
    sys.exit("the service did not become ready")


def _script(folder: Path, lists: list, *, explain: bool) -> Path:
    path = folder / "bodies.lua"
    path.write_text(SCRIPT % ",".join(f"[==[{body}]==]" for body in _bodies(lists, explain=explain)))
    return path


def _bodies(lists: list, *, explain: bool) -> list[str]:
    return [
        json.dumps({"user": u, "candidates": [{"item_id": i, "score": s} for i, s in c], "explain": explain})
        for u, c in lists
    ]


def _lists() -> list[tuple[str, list[tuple[str, float]]]]:
    rng = np.random.default_rng(1)
    return [
        (
            f"user-{rng.integers(USERS)}",
            [(f"item-{i}", float(-n)) for n, i in enumerate(rng.choice(ITEMS, CANDIDATES, False))],
        )
        for _ in range(LISTS)
    ]


def _publish(root: Path) -> None:
    rng = np.random.default_rng()
    users = np.repeat([f"user-{n}" for n in range(USERS)], INTERACTIONS)
    ages = np.tile(np.arange(INTERACTIONS)[::-1], USERS)
    index = pl.DataFrame({"user_id": users, "item_id": [f"item-{n}" for n in rng.integers(0, ITEMS, len(users))]})
    rows = index.with_columns(rating=5.0, timestamp=None, age=ages, vector_row=pl.int_range(pl.len()))
    _cache(
        root, "interaction_cache", rows.select(list(schemas.INTERACTION_INDEX)).cast(schemas.INTERACTION_INDEX), rng
    )
    items = np.repeat([f"item-{n}" for n in range(ITEMS)], PERSONAS)
    ids = [f"{item}_P{n % PERSONAS}" for n, item in enumerate(items)]
    personas = pl.DataFrame({"item_id": items, "unique_persona_id": ids}).with_columns(
        vector_row=pl.int_range(pl.len())
    )
    _cache(root, "persona_cache", personas.cast(schemas.PERSONA_INDEX), rng)
    text = "Somebody who plays outdoors, carries everything by hand and counts every gram of it."
    texts = personas.select("item_id", "unique_persona_id").with_columns(
        **{name: pl.lit(text) for name in schemas.PERSONAS if name not in ("item_id", "unique_persona_id")}
    )
    form = output_format("personas", "amazon")
    _write(root, "personas", lambda place: form.write(texts.select(list(schemas.PERSONAS)), place))
    _write(
        root, "reranked_candidates", lambda place: {"serving_alpha": 0.5, "user_max_k": INTERACTIONS, "gamma": 0.65}
    )


def _cache(root: Path, asset: str, index: pl.DataFrame, rng: np.random.Generator) -> None:
    vectors = rng.standard_normal((index.height, DIMENSION), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    form = output_format(asset, "amazon")
    _write(root, asset, lambda place: form.write(CacheTable(vectors, index, MADE_WITH), place))


def _write(root: Path, asset: str, write) -> None:
    made_from = Provenance(code_version="1", inputs={})
    VersionStore(root / "versions", asset, "amazon").publish(write, run_id="", data_version="e", provenance=made_from)
