"""HTTP connections that wait for nobody: what does not arrive, or is not read, in time is closed."""

import asyncio
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

TOO_SLOW = b'{"error":"the request must arrive within %d s"}'
LONG_PATHS = (b"/v1/rerank/batch",)


class GatheredWrites:
    """A transport that sends what is written within one turn of the loop together: head and body in one call.

    Two calls of the system would take a tenth of a request. All else is as in the transport.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop, self._held = transport, loop, list[bytes]()

    def write(self, data: bytes) -> None:
        """Hold it until the end of the turn."""
        if not self._held:
            self._loop.call_soon(self._flush)
        self._held.append(data)

    def close(self) -> None:
        """Close it after what is held."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._held:
            content, self._held = b"".join(self._held), []
            self._transport.write(content)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class TimedProtocol(HttpToolsProtocol):
    """A connection that knows since when it waits for its client; `expire` is called every second."""

    waits_since: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast("asyncio.Transport", GatheredWrites(transport, self.loop)))
        self.waits_since = self.loop.time()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.waits_since = self.loop.time()

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        if self.url.startswith(LONG_PATHS):
            self.waits_since = self.loop.time()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self.waits_since = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self.waits_since = self.loop.time()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.waits_since = None

    def expire(self, seconds: float) -> None:
        """Close the connection if its client is too slow."""
        if self.waits_since is None or self.loop.time() - self.waits_since < seconds:
            return
        if self.flow.write_paused or (
            self.cycle and self.cycle.response_started and not self.cycle.response_complete
        ):
            self.transport.abort()
            return
        body = TOO_SLOW % int(seconds)
        head = b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\nconnection: close\r\n"
        self.transport.write(b"%scontent-length: %d\r\n\r\n%s" % (head, len(body), body))
        self.transport.close()

    def data_received(self, data: bytes) -> None:
        """As in uvicorn, but what is no address is an answer and not a traceback."""
        try:
            super().data_received(data)
        except (httptools.HttpParserInvalidURLError, UnicodeDecodeError):
            self.send_400_response("Invalid HTTP request received.")

    def send_400_response(self, msg: str) -> None:
        body = b'{"error":"this is not a valid HTTP request"}'
        head = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\n"
        self.transport.write(b"%scontent-length: %d\r\n\r\n%s" % (head, len(body), body))
        self.transport.close()


def expire_all(connections: Any, seconds: float) -> None:
    """Close all connections whose clients are too slow."""
    for connection in list(connections):
        connection.expire(seconds)
