"""How the service was asked to run."""

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from personarank_dagster.core.errors import UsageError, reason_of
from personarank_dagster.core.origins import LOOPBACK

MIN_TOKEN_LENGTH = 16


@dataclass(frozen=True)
class Limits:
    """What a request may ask for, and how many there may be at a time; seconds for one to arrive whole."""

    body_bytes: int = 1 << 20
    candidates: int = 1000
    history: int = 1000
    in_flight: int = 256
    seconds: float = 10.0


@dataclass(frozen=True)
class Settings:
    """Address, access, limits, experiment and logs of a service."""

    host: str = LOOPBACK
    port: int = 8080
    workers: int = 1
    token: str | None = None
    public_url: str | None = None
    limits: Limits = field(default_factory=Limits)
    share: float = 1.0
    shadow: bool = False
    impressions: Path | None = None
    access_log: bool = True
    log_ids: bool = False
    in_browser: bool = False

    def __post_init__(self) -> None:
        if self.token is None and not self.is_loopback:
            raise UsageError(
                f"--host {self.host}: needs --token-file, since others than this machine reach it; "
                f"give one, or leave it at {LOOPBACK}"
            )
        if self.shadow and self.share != 1.0:
            raise UsageError(f"--shadow passes all lists through, so --share must be left out, got {self.share}")

    @property
    def url(self) -> str:
        """Address of the page."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches the service."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def read_token(path: Path) -> str:
    """The token in a file. Raises UsageError if it cannot be read or is short enough to guess."""
    try:
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--token-file {path}: cannot be read: {reason_of(error)}") from error
    if len(token) < MIN_TOKEN_LENGTH or not token.isascii() or not token.isprintable() or " " in token:
        rule = f"one word of at least {MIN_TOKEN_LENGTH} printable ASCII characters"
        raise UsageError(f"--token-file {path}: must hold {rule}, got {len(token)} characters")
    return token
