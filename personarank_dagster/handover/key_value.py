"""Lists in Redis or Valkey: one value a user, and a key that says which version is current.

    <prefix>:<dataset>:current             name of the version that readers take
    <prefix>:<dataset>:<version>:<user>    {"items": [...], "scores": [...]}, best first
    <prefix>:<dataset>:versions            set of all versions that there may be keys of

`current` is written last, so that readers see the old lists until all new ones are there, also after a kill. What did
not change is copied within the server and not sent again.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import polars as pl
import xxhash

from personarank_dagster.configuration.export_settings import RedisExport
from personarank_dagster.core.errors import StorageError, reason_of
from personarank_dagster.core.schemas import DIGESTS
from personarank_dagster.ranking.ranker import blocks
from personarank_dagster.storage.tables import Table

PASSWORD_VARIABLE = "PERSONARANK_REDIS_PASSWORD"
DAY_SECONDS = 86_400
# Users whose commands travel together.
PIPELINED_USERS = 2_000
SWEPT_KEYS = 5_000
# Digits of a score that a reader gets.
SCORE_DIGITS = 6


@dataclass(frozen=True)
class Keys:
    """Names of the keys of a dataset."""

    prefix: str
    dataset: str

    @property
    def current(self) -> str:
        """Key of the name of the current version."""
        return f"{self.prefix}:{self.dataset}:current"

    @property
    def versions(self) -> str:
        """Key of the set of all versions."""
        return f"{self.prefix}:{self.dataset}:versions"

    def of(self, version: str, user: str) -> str:
        """Key of a user's list."""
        return f"{self.prefix}:{self.dataset}:{version}:{user}"


@dataclass(frozen=True)
class HandedOver:
    """What was handed over before: a version, and a digest of each user's value."""

    version: str
    digests: Mapping[str, int]


@dataclass(frozen=True)
class Sent:
    """Digests of all values, how many were sent and how many copied, and the versions that were removed."""

    digests: pl.DataFrame
    sent: int
    copied: int
    removed: list[str]


@contextmanager
def connect(settings: RedisExport) -> Iterator[Any]:
    """A client. Raises StorageError if it is not installed, and for whatever the server answers with an error."""
    try:
        import redis
    except ImportError as error:
        raise StorageError(
            "handing over to Redis needs its client; pip install 'personarank-dagster[redis]'"
        ) from error
    password = os.environ.get(PASSWORD_VARIABLE)
    given = {"password": password} if password else {}
    client = redis.Redis.from_url(settings.url, decode_responses=True, socket_timeout=60, **given)
    try:
        yield client
    except redis.RedisError as error:
        raise StorageError(f"{settings.url}: the server answered: {reason_of(error)}") from error
    finally:
        client.close()


def hand_over(
    client: Any, lists: Table, settings: RedisExport, *, dataset: str, version: str, before: HandedOver | None
) -> Sent:
    """Write the lists of a version, point to it, and remove versions beyond `keep`, and later ones."""
    keys = Keys(settings.prefix, dataset)
    client.sadd(keys.versions, version)
    digests, sent = [pl.DataFrame(schema=DIGESTS)], 0
    for values in _values(lists, settings.places):
        sent += _Writer(client, keys, settings, version, before).write(values)
        digests.append(pl.DataFrame({"user_id": [*values], "digest": [*map(_digest, values.values())]}, DIGESTS))
    client.set(keys.current, version, ex=settings.ttl_days * DAY_SECONDS)
    found = pl.concat(digests)
    return Sent(found, sent, found.height - sent, sweep(client, keys, current=version, keep=settings.keep))


def read_list(client: Any, keys: Keys, user: str) -> dict[str, Any] | None:
    """The current list of a user, as a reader gets it; None for an unknown one."""
    version = client.get(keys.current)
    value = client.get(keys.of(version, user)) if version else None
    return msgspec.json.decode(value) if value else None


def sweep(client: Any, keys: Keys, *, current: str, keep: int) -> list[str]:
    """Remove all versions but the current one and those before it, `keep` in all."""
    versions = sorted(client.smembers(keys.versions))
    kept = [version for version in versions if version <= current][-keep:]
    removed = [version for version in versions if version not in kept]
    for version in removed:
        _unlink(client, keys.of(version, "*"))
        client.srem(keys.versions, version)
    return removed


def _unlink(client: Any, pattern: str) -> None:
    found: list[str] = []
    for key in client.scan_iter(match=pattern, count=SWEPT_KEYS):
        found.append(key)
        if len(found) == SWEPT_KEYS:
            client.unlink(*found)
            found = []
    if found:
        client.unlink(*found)


@dataclass(frozen=True)
class _Writer:
    """Writes values of one version."""

    client: Any
    keys: Keys
    settings: RedisExport
    version: str
    before: HandedOver | None

    def write(self, values: Mapping[str, bytes]) -> int:
        """Copy what is in the server already, and send the rest; returns how many were sent."""
        changed = dict(values)
        for user in self._copied([user for user, value in values.items() if self._is_known(user, value)]):
            del changed[user]
        self._send(changed)
        return len(changed)

    def _is_known(self, user: str, value: bytes) -> bool:
        before = self.before
        return before is not None and before.digests.get(user) == _digest(value)

    def _copied(self, users: list[str]) -> list[str]:
        """Users whose list could be copied: it may be gone."""
        if self.before is None or not users or self.before.version == self.version:
            return []
        pipeline = self.client.pipeline(transaction=False)
        for user in users:
            new = self.keys.of(self.version, user)
            pipeline.copy(self.keys.of(self.before.version, user), new, replace=True)
            pipeline.expire(new, self._seconds)
        return [user for user, copied in zip(users, pipeline.execute()[::2], strict=True) if copied]

    def _send(self, values: Mapping[str, bytes]) -> None:
        pipeline = self.client.pipeline(transaction=False)
        for user, value in values.items():
            pipeline.set(self.keys.of(self.version, user), value, ex=self._seconds)
        pipeline.execute()

    @property
    def _seconds(self) -> int:
        return self.settings.ttl_days * DAY_SECONDS


def _values(lists: Table, places: int) -> Iterator[dict[str, bytes]]:
    """Values by user, some users at a time."""
    for block in blocks(lists.lazy().select("user_id", "rank", "item_id", "score")):
        first = block.filter(pl.col("rank") <= places).with_columns(pl.col("score").round_sig_figs(SCORE_DIGITS))
        by_user = first.group_by("user_id", maintain_order=True).agg("item_id", "score")
        for part in by_user.iter_slices(PIPELINED_USERS):
            yield {
                user: msgspec.json.encode({"items": items, "scores": scores}) for user, items, scores in part.rows()
            }


def _digest(value: bytes) -> int:
    return xxhash.xxh3_64_intdigest(value)
