"""What was shown to whom, for an A/B test or an off-policy estimate: JSON Lines in files that rotate.

No texts, and users by a keyed hash: without the key beside the files nobody is found by trying ids.
"""

import hashlib
import os
import secrets
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from personarank_dagster.core.errors import StorageError, reason_of
from personarank_dagster.service.messages import Arm, RerankAnswer

KEY_FILE, KEY_BYTES = ".key", 32
ROTATE_BYTES, ROTATE_SECONDS = 64 << 20, 3600.0

Places = list[tuple[str, float]]
_encode = msgspec.json.Encoder().encode


class Impression(msgspec.Struct, frozen=True, kw_only=True):
    """One answer: both orders, as far as places were asked for, and in `arm` which of them was shown.

    `reranked` was shown in the arm of that name, `candidates` in both others; `user` is null for a given history.
    """

    time: float
    recommendation_id: str
    dataset: str
    version: str
    arm: Arm
    user: str | None
    candidates: Places
    reranked: Places


class Impressions:
    """Files `impressions-<time>-<process>.jsonl`; the one that is being written ends in `.part`."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._key = folder, read_key(folder)
        self._held: list[bytes] = []
        self._path: Path | None = None
        self._begun = self._bytes = 0.0

    def user(self, dataset: str, user: str | None) -> str | None:
        """What stands for a user."""
        if user is None:
            return None
        return hashlib.blake2b(f"{dataset}\0{user}".encode(), key=self._key, digest_size=16).hexdigest()

    def write(self, impression: Impression) -> None:
        """Hold an impression until `flush`, which is called several times a second."""
        self._held.append(_encode(impression))

    def flush(self) -> None:
        """Append what is held, and take a new file where the old one is large or old. Raises StorageError."""
        if self._held:
            content, self._held = b"\n".join([*self._held, b""]), []
            self._append(content)
        if self._bytes >= ROTATE_BYTES or (self._path and time.time() - self._begun >= ROTATE_SECONDS):
            self.close()

    def close(self) -> None:
        """Give the file its final name."""
        if self._path:
            self._path.rename(self._path.with_suffix(""))
        self._path, self._bytes = None, 0.0

    def _append(self, content: bytes) -> None:
        if self._path is None:
            self._begun = time.time()
            stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(self._begun))
            self._path = self._folder / f"impressions-{stamp}-{os.getpid()}-{secrets.token_hex(2)}.jsonl.part"
        try:
            with self._path.open("ab") as file:
                file.write(content)
        except OSError as error:
            raise StorageError(f"{self._path}: cannot be written: {reason_of(error)}") from error
        self._bytes += len(content)


def read_key(folder: Path) -> bytes:
    """The key of a folder of impressions, made at the first time. Raises StorageError."""
    path = folder / KEY_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(KEY_BYTES))
        key = path.read_bytes()
    except OSError as error:
        raise StorageError(f"{path}: cannot be read or made: {reason_of(error)}") from error
    if len(key) != KEY_BYTES:
        raise StorageError(f"{path}: must hold {KEY_BYTES} bytes, got {len(key)}; remove it to get a new one")
    return key


def impression(answer: RerankAnswer, user: str | None, candidates: Places, reranked: Places) -> Impression:
    """What is kept of an answer."""
    return Impression(
        time=round(time.time(), 3),
        recommendation_id=answer.recommendation_id,
        dataset=answer.dataset,
        version=answer.version,
        arm=answer.arm,
        user=user,
        candidates=candidates,
        reranked=reranked,
    )
