"""Dagster's SQLite databases as the tests have them: what it makes for each statement or file is made once."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from alembic.config import Config
from alembic.script import ScriptDirectory
from dagster._core.storage.event_log.sqlite import sqlite_event_log
from dagster._core.storage.runs.sqlite import sqlite_run_storage
from dagster._core.storage.schedules.sqlite import sqlite_schedule_storage
from dagster._core.storage.sql import get_alembic_config
from sqlalchemy.engine import Engine


def keep_engines_and_migrations() -> None:
    """Let an engine be kept for each file, and the migrations of each storage: a third of what tiny runs compute.

    A new engine compiles its statements anew; it has no pool, so a connection still is one for each statement. And
    each run has a file of its own, for which all migrations are loaded to name the last one.
    """
    ScriptDirectory.from_config = _kept_by_folder(ScriptDirectory.from_config)  # type: ignore[method-assign]
    for module in (sqlite_event_log, sqlite_run_storage, sqlite_schedule_storage):
        module.create_engine = _kept(module.create_engine)  # type: ignore[attr-defined]
        # Before anything is forked.
        ScriptDirectory.from_config(get_alembic_config(module.__file__)).as_revision_number("head")


def _kept(create: Callable[..., Engine]) -> Callable[..., Engine]:
    made: dict[str, Engine] = {}

    def engine(url: str, **options: Any) -> Engine:
        if url not in made:
            made[url] = create(url, **options)
        return made[url]

    return engine


def _kept_by_folder(read: Callable[[Config], ScriptDirectory]) -> Callable[[Config], ScriptDirectory]:
    made: dict[str | None, ScriptDirectory] = {}

    @wraps(read)
    def scripts(config: Config) -> ScriptDirectory:
        folder = config.get_main_option("script_location")
        if folder not in made:
            made[folder] = read(config)
        return made[folder]

    return scripts
