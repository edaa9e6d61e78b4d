"""The terminal, or the pipe: where lines and tables go, and how wide they may be."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from personarank_dagster.core.errors import PersonarankError

console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)

# Of a line: no name that is copied into another command may be cut.
NO_LIMIT = 10_000


def show_table(table: Table, *, whole: bool = False) -> None:
    """Print a table: at its full width in a pipe, or where it is `whole`, and else within the screen.

    A column with names to be copied is `no_wrap`, and its table `whole`: on a screen that is too narrow lines wrap.
    """
    if whole or not console.is_terminal:
        table.width = console.measure(table, options=console.options.update_width(NO_LIMIT)).maximum
    console.print(table, crop=False)


def screen_width() -> int:
    """Characters that a line of the screen has; in a pipe as many as there are."""
    return console.width if console.is_terminal else NO_LIMIT


def show_error(error: PersonarankError) -> None:
    """Print an error that ends only a part of what is done."""
    errors.print(f"[red]Error:[/] {escape(str(error))}")


def show_warning(text: str) -> None:
    """Print a warning."""
    errors.print(f"[yellow]warning:[/] {escape(text)}")
