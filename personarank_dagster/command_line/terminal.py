"""The terminal, or the pipe: where lines and tables go, and how wide they may be."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from personarank_dagster.core.errors import PersonarankError

console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)

# Of a line: no name that is copied into another command may be cut.
NO_LIMIT = 10_000


def new_table(*columns: str, title: str = "") -> Table:
    """A table; a column that begins with > is of numbers, and stands to the right."""
    table = Table(title=title or None, title_justify="left", box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        # Names are copied into other commands, so they are never cut.
        table.add_column(column.lstrip(">"), no_wrap=True, justify="right" if column.startswith(">") else "left")
    return table


def show_table(table: Table, *, spare: Sequence[str] = ()) -> None:
    """Print a table whole: on a screen that is too narrow without `spare` columns, the first one first.

    Where that is not enough lines wrap.
    """
    left_out = _leave_out(table, spare) if console.is_terminal else []
    table.width = _width(table)
    console.print(table, crop=False)
    if left_out:
        console.print(f"[dim]left out on this screen, not in a pipe: {', '.join(left_out)}[/]")


def _leave_out(table: Table, spare: Sequence[str]) -> list[str]:
    left_out: list[str] = []
    for name in spare:
        if _width(table) <= console.width:
            break
        table.columns = [column for column in table.columns if column.header != name]
        left_out.append(name)
    return left_out


def _width(table: Table) -> int:
    """Width without a wrapped cell."""
    return console.measure(table, options=console.options.update_width(NO_LIMIT)).maximum


def screen_width() -> int:
    """Characters that a line of the screen has; in a pipe as many as there are."""
    return console.width if console.is_terminal else NO_LIMIT


def show_error(error: PersonarankError) -> None:
    """Print an error that ends only a part of what is done."""
    errors.print(f"[red]Error:[/] {escape(str(error))}")


def show_warning(text: str) -> None:
    """Print a warning."""
    errors.print(f"[yellow]warning:[/] {escape(text)}")
