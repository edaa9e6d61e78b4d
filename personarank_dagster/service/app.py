"""The ASGI application: routes, limits, and an answer of one sentence to whatever is wrong."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from personarank_dagster.core.errors import PersonarankError, reason_of
from personarank_dagster.service.access import Access
from personarank_dagster.service.answers import Answerer
from personarank_dagster.service.lines import Lines
from personarank_dagster.service.messages import (
    Readiness,
    Refusal,
    RerankAnswer,
    RerankRequest,
    decode_request,
    encode,
)
from personarank_dagster.service.refusals import RefusedError
from personarank_dagster.service.settings import Settings

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

JSON, NDJSON = b"application/json", b"application/x-ndjson"
PROMETHEUS = b"text/plain; version=0.0.4; charset=utf-8"
CLIENT_GONE = 499
NO_HEADERS: Mapping[str, str] = {}
# Lists of a batch that are answered before others have a turn.
BATCH_TURN = 16


@dataclass
class Exchange:
    """A request and the way back."""

    scope: Scope
    receive: Receive
    send: Send
    begun: float
    route: str = "other"
    status: int = 500
    told: RerankAnswer | None = None
    asked: RerankRequest | None = None

    async def reply(
        self, body: bytes, *, status: int = 200, kind: bytes = JSON, headers: Mapping[str, str] = NO_HEADERS
    ) -> None:
        """Send an answer."""
        self.status = status
        sent = [(b"content-type", kind), (b"content-length", b"%d" % len(body)), *SAFE]
        sent += [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": status, "headers": sent})
        await self.send({"type": "http.response.body", "body": body})


SAFE = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))
Handler = Callable[[Exchange], Awaitable[None]]


@dataclass(frozen=True)
class Route:
    """What answers a path; what `is_open` needs no token."""

    method: str
    handle: Handler
    name: str = "other"
    is_open: bool = False


class Service:
    """The routes of the service; `more` are those of the page."""

    def __init__(self, settings: Settings, answerer: Answerer, log: Lines | None, more: dict[str, Route]) -> None:
        self._settings, self._answerer, self._log = settings, answerer, log
        self._access, self._counters = Access(settings), answerer.counters
        self._in_flight = 0
        self.routes = {
            "/v1/rerank": Route("POST", self._rerank, "rerank"),
            "/v1/rerank/batch": Route("POST", self._batch, "batch"),
            "/health/live": Route("GET", self._live, is_open=True),
            "/health/ready": Route("GET", self._ready, is_open=True),
            "/metrics": Route("GET", self._metrics),
            **more,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, count it and log it."""
        if scope["type"] != "http":
            return
        exchange = Exchange(scope, receive, send, time.perf_counter())
        self._in_flight += 1
        try:
            await self._answer(exchange)
        except RefusedError as refused:
            await exchange.reply(encode(Refusal(str(refused))), status=refused.status, headers=refused.headers)
        except PersonarankError as error:
            await exchange.reply(encode(Refusal(str(error))), status=400)
        except ConnectionError:
            exchange.status = CLIENT_GONE
        finally:
            self._in_flight -= 1
            self._note(exchange)

    async def _answer(self, exchange: Exchange) -> None:
        scope = exchange.scope
        route = self.routes.get(scope["path"])
        self._access.check(scope["headers"], is_open=route is not None and route.is_open)
        if route is None:
            raise RefusedError(404, f"unknown path {scope['path'][:100]!r}; /openapi.json lists all")
        exchange.route = route.name
        if scope["method"] != route.method and not (scope["method"] == "HEAD" and route.method == "GET"):
            raise RefusedError(405, f"{scope['path']} takes {route.method} only", allow=route.method)
        if self._in_flight > self._settings.limits.in_flight and not route.is_open:
            raise RefusedError(429, f"{self._settings.limits.in_flight} requests are in work", retry_after="1")
        await route.handle(exchange)

    async def _rerank(self, exchange: Exchange) -> None:
        body = await read_body(exchange, self._settings.limits.body_bytes)
        request = decode(body)
        exchange.asked = request
        if request.history is None:
            answer = self._answerer.answer(request)
        else:
            answer = await asyncio.to_thread(self._answerer.answer, request)
        exchange.told = answer
        await exchange.reply(encode(answer))

    async def _batch(self, exchange: Exchange) -> None:
        """A line for each line, in their order, as they come; a line that is refused says why and where."""
        exchange.status = 200
        head = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", NDJSON), *SAFE]}
        await exchange.send(head)
        held, number, more = b"", 0, True
        while more:
            message = await exchange.receive()
            if message["type"] == "http.disconnect":
                raise ConnectionError
            more = message.get("more_body", False)
            *lines, held = (held + message["body"]).split(b"\n")
            for start in range(0, len(lines), BATCH_TURN):
                answers = [
                    self._line(line, number + start + i)
                    for i, line in enumerate(lines[start : start + BATCH_TURN], 1)
                ]
                await exchange.send({"type": "http.response.body", "body": b"".join(answers), "more_body": True})
                await asyncio.sleep(0)
            number += len(lines)
            if len(held) > self._settings.limits.body_bytes:
                break
        last = self._line(held, number + 1)
        await exchange.send({"type": "http.response.body", "body": last})

    def _line(self, line: bytes, number: int) -> bytes:
        if not line.strip():
            return b""
        try:
            if len(line) > (limit := self._settings.limits.body_bytes):
                raise RefusedError(413, f"a line must be at most {limit} bytes")
            return encode(self._answerer.answer(decode(line))) + b"\n"
        except PersonarankError as error:
            return encode(Refusal(f"line {number}: {error}")) + b"\n"

    async def _live(self, exchange: Exchange) -> None:
        await exchange.reply(b'{"live":true}')

    async def _ready(self, exchange: Exchange) -> None:
        datasets = self._answerer.datasets.by_name
        told = {name: one.version or f"not ready: {one.problem}" for name, one in datasets.items()}
        ready = all(one.reranker is not None for one in datasets.values())
        await exchange.reply(encode(Readiness(ready, told)), status=200 if ready else 503)

    async def _metrics(self, exchange: Exchange) -> None:
        loaded = [one for one in self._answerer.datasets.by_name.values() if one.version]
        text = self._counters.text({one.name: (one.version or "", one.age) for one in loaded})
        await exchange.reply(text, kind=PROMETHEUS)

    def _note(self, exchange: Exchange) -> None:
        seconds = time.perf_counter() - exchange.begun
        self._counters.request(exchange.route, exchange.status, seconds)
        if self._log is not None:
            self._log.write(access_line(exchange, seconds, with_ids=self._settings.log_ids))


def access_line(exchange: Exchange, seconds: float, *, with_ids: bool) -> dict[str, Any]:
    """What the log says of a request: no texts, and ids only if they are asked for."""
    scope, answer, request = exchange.scope, exchange.told, exchange.asked
    line = {
        "time": round(time.time(), 3),
        "method": scope["method"],
        # A path that is no route may hold anything.
        "path": scope["path"] if exchange.status != 404 else None,
        "status": exchange.status,
        "ms": round(seconds * 1000, 3),
    }
    if answer is not None and request is not None:
        line |= {"dataset": answer.dataset, "version": answer.version, "arm": answer.arm}
        line |= {"recommendation_id": answer.recommendation_id, "candidates": len(request.candidates)}
        if with_ids:
            line["user"] = request.user
    return line


async def read_body(exchange: Exchange, limit: int) -> bytes:
    """The whole body. Raises RefusedError beyond the limit, ConnectionError if the client is gone."""
    message = await exchange.receive()
    body: bytes = message.get("body", b"")
    while message["type"] == "http.request" and message.get("more_body", False) and len(body) <= limit:
        message = await exchange.receive()
        body += message.get("body", b"")
    if message["type"] == "http.disconnect":
        raise ConnectionError
    if len(body) > limit:
        raise RefusedError(413, f"a body must be at most {limit} bytes", connection="close")
    return body


def decode(body: bytes) -> RerankRequest:
    """A request. Raises RefusedError with what is wrong with it."""
    try:
        return decode_request(body)
    except msgspec.ValidationError as error:
        raise RefusedError(400, f"body: {reason_of(error)}") from error
    except (msgspec.DecodeError, UnicodeError) as error:
        raise RefusedError(400, f"body: is not JSON: {reason_of(error)}") from error
    except RecursionError as error:
        raise RefusedError(400, "body: is nested too deep") from error
