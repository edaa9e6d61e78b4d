"""Dagster's SQLite storages as the tests have them: an engine for each file, instead of one for each statement."""

from collections.abc import Callable
from typing import Any

from dagster._core.storage.event_log.sqlite import sqlite_event_log
from dagster._core.storage.runs.sqlite import sqlite_run_storage
from dagster._core.storage.schedules.sqlite import sqlite_schedule_storage
from sqlalchemy.engine import Engine


def keep_engines() -> None:
    """Let an engine be kept: a new one compiles its statements anew, which is a fifth of what a tiny run computes.

    They have no pool, so a connection still is one for each statement.
    """
    for module in (sqlite_event_log, sqlite_run_storage, sqlite_schedule_storage):
        module.create_engine = _kept(module.create_engine)  # type: ignore[attr-defined]


def _kept(create: Callable[..., Engine]) -> Callable[..., Engine]:
    made: dict[str, Engine] = {}

    def engine(url: str, **options: Any) -> Engine:
        if url not in made:
            made[url] = create(url, **options)
        return made[url]

    return engine
