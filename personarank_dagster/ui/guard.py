"""What the webserver is asked, and by whom: requests of other sites' pages do not reach Dagster.

Dagster's webserver answers any Host, any Origin and mutations over GET.
"""

from collections.abc import Collection
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from personarank_dagster.core.origins import Origins

GRAPHQL_PATH = "/graphql"


class Guard:
    """ASGI middleware that lets through only requests for one of the origins, from their own pages or from none.

    An origin is like `http://127.0.0.1:3000`; programs that are no browsers send no Origin and are let through.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        self.app = app
        self.origins = Origins(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 403 with the reason."""
        refusal = self._refusal(scope) if scope["type"] in ("http", "websocket") else None
        if refusal is None:
            await self.app(scope, receive, _unframed(send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": refusal})
        else:
            await PlainTextResponse(refusal, status_code=403)(scope, receive, send)

    def _refusal(self, scope: Scope) -> str | None:
        """Why the request is refused; None if it is not."""
        headers = Headers(scope=scope)
        if refusal := self.origins.refusal(headers.getlist("host"), headers.getlist("origin")):
            return refusal
        if scope["path"].rstrip("/") == GRAPHQL_PATH and "query" in parse_qs(scope["query_string"].decode("latin-1")):
            return "GraphQL is answered in the body of a POST request only, not in the address"
        return None


def _unframed(send: Send) -> Send:
    """Tell browsers to show no page inside of another site's page, where clicks could be led to it."""

    async def send_unframed(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message)["X-Frame-Options"] = "DENY"
        await send(message)

    return send_unframed
