"""How a command of `personarank` runs: in a process of its own, ended by one signal, its errors in one line."""

import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import Any

import click

from personarank_dagster.command_line.supervision import Interrupted, end, interruptible, supervise
from personarank_dagster.core.errors import ConfigError, PersonarankError, UsageError

# What the context of a command holds that was typed.
TYPED = object()

Command = Callable[..., None]


class Program(click.Group):
    """Commands that one Ctrl-C or SIGTERM ends where they are typed; those of tests stay in their process."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Do what was typed."""
        try:
            with interruptible():
                return self.main(*args, obj=TYPED, **kwargs)
        except Interrupted as interrupted:
            end(interrupted)


def supervised(leaves: str) -> Callable[[Command], Command]:
    """Do the command in a process of its own, which a signal ends wherever it is; `leaves` says what of it stays."""

    def wrapped(command: Command) -> Command:
        @plain_errors
        @wraps(command)
        def run(*args: Any, **kwargs: Any) -> None:
            if click.get_current_context().obj is not TYPED:
                return command(*args, **kwargs)
            _load()
            code = supervise(lambda: plain_errors(command)(*args, **kwargs), tidy=_tidy, leaves=leaves)
            if code < 0:
                click.echo(f"killed by {signal.Signals(-code).name}; {leaves}", err=True)
            sys.exit(code if code >= 0 else 128 - code)

        return run

    return wrapped


def _load() -> None:
    """Load what tidies up before there are two processes; where no datasets are configured it cannot be."""
    with suppress(ConfigError):
        import dagster._core.storage.sqlite_storage  # noqa: F401

        import personarank_dagster.definitions
        import personarank_dagster.defs.automation.upkeep  # noqa: F401


class _Mistyped(click.ClickException):
    exit_code = 2


def _tidy() -> None:
    with suppress(ConfigError):
        from personarank_dagster.definitions import project
        from personarank_dagster.defs.automation.upkeep import tidy

        tidy(project)


def plain_errors(command: Command) -> Command:
    """Print an error of ours as the lines that it is, without a traceback.

    Exit with 2 where it is about what was typed, as click does, and with 1 for all others.
    """

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except OSError as error:
            if error.filename is None or error.strerror is None:
                raise
            raise click.ClickException(f"{error.filename}: cannot be used: {error.strerror}") from error
        except PersonarankError as error:
            raise (_Mistyped if isinstance(error, UsageError) else click.ClickException)(str(error)) from error

    return run
