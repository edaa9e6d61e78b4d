"""Who may ask: pages of this service, programs, and where a token is set, those who know it."""

import hmac
from collections.abc import Iterable
from urllib.parse import urlsplit

from personarank_dagster.core.origins import Origins, own_origins
from personarank_dagster.service.refusals import RefusedError
from personarank_dagster.service.settings import Settings

Headers = Iterable[tuple[bytes, bytes]]
CHECKED = (b"host", b"origin", b"authorization")
# Answers that are remembered: a client sends the same headers again and again.
REMEMBERED = 1000


class Access:
    """Checks the headers of a request."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._origins = Origins(own_origins(settings.port, settings.public_url))
        self._allowed: set[tuple[tuple[bytes, bytes], ...]] = set()

    def check(self, headers: Headers, *, is_open: bool) -> None:
        """Raise RefusedError unless the request may be answered; what `is_open` needs no token."""
        sent = tuple([header for header in headers if header[0] in CHECKED])
        if sent in self._allowed:
            return
        values = [(name.decode(), value.decode("latin-1")) for name, value in sent]
        self._check_origin(*([v for n, v in values if n == name] for name in ("host", "origin")))
        if is_open or self._settings.token is None:
            if self._settings.token is None and len(self._allowed) < REMEMBERED:
                self._allowed.add(sent)
            return
        self._check_token([value for name, value in values if name == "authorization"], self._settings.token)
        if len(self._allowed) < REMEMBERED:
            self._allowed.add(sent)

    def _check_origin(self, hosts: list[str], origins: list[str]) -> None:
        # An address that others reach has names that are not known here, and a token that no page of others has.
        if self._settings.is_loopback:
            if refusal := self._origins.refusal(hosts, origins):
                raise RefusedError(403, refusal)
        elif any(not self._is_own(origin, hosts) for origin in origins):
            raise RefusedError(403, "Origin must be that of this service; to serve another, see --public-url")

    def _is_own(self, origin: str, hosts: list[str]) -> bool:
        return origin.rstrip("/") == (self._settings.public_url or "").rstrip("/") or urlsplit(origin).netloc in hosts

    def _check_token(self, sent: list[str], token: str) -> None:
        scheme, _, given = (sent[0] if len(sent) == 1 else "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), token.encode()):
            raise RefusedError(
                401, "Authorization must be `Bearer` and the token of this service", www_authenticate="Bearer"
            )
