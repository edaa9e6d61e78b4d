"""Which pages and names a server of this machine answers to: those of its own addresses, and no others.

A page of another site that is open in the same browser could send requests, and a name that is bound anew to
127.0.0.1 could read the answers.
"""

from collections.abc import Collection, Sequence
from urllib.parse import urlsplit

LOOPBACK = "127.0.0.1"
DEFAULT_PORTS = {"http": 80, "https": 443}


def own_origins(port: int, public_url: str | None) -> list[str]:
    """Origins that a server answers to: loopback, and the address of a proxy in front of it."""
    loopback = [f"http://{name}:{port}" for name in (LOOPBACK, "localhost")]
    return loopback + ([public_url.rstrip("/")] if public_url else [])


class Origins:
    """Origins like `http://127.0.0.1:3000`; the default port of a scheme may be left out, as browsers do."""

    def __init__(self, origins: Collection[str]) -> None:
        self.origins = {_short(origin) for origin in origins}
        self.hosts = {urlsplit(origin).netloc: urlsplit(origin).scheme for origin in self.origins}

    def refusal(self, hosts: Sequence[str], origins: Sequence[str]) -> str | None:
        """Why a request with these headers is refused; None if it is not. Programs send no Origin."""
        if len(hosts) != 1 or not self._is_own(hosts[0]):
            return f"Host must be one of {', '.join(sorted(self.hosts))}; to serve another, see --public-url"
        if any(_short(origin) not in self.origins for origin in origins):
            return f"Origin must be one of {', '.join(sorted(self.origins))}; to serve another, see --public-url"
        return None

    def _is_own(self, host: str) -> bool:
        return any(_short(f"{scheme}://{host}") == f"{scheme}://{own}" for own, scheme in self.hosts.items())


def _short(origin: str) -> str:
    """In small letters, without the port that is the default of its scheme."""
    scheme, _, host = origin.lower().partition("://")
    return f"{scheme}://{host.removesuffix(f':{DEFAULT_PORTS.get(scheme)}')}"
