"""Tables on screens of several widths, and in a pipe: nothing that is copied is cut."""

import io

import pytest
from rich.console import Console

from personarank_dagster.command_line import terminal
from personarank_dagster.command_line.terminal import new_table, show_table

VERSION = "20261126T222834842958-8026344f"


def shown(monkeypatch: pytest.MonkeyPatch, width: int, *, pipe: bool = False) -> str:
    """A table of versions, as it is printed."""
    output = io.StringIO()
    screen = Console(
        file=output, width=width, force_terminal=not pipe, highlight=False, soft_wrap=True, no_color=True
    )
    monkeypatch.setattr(terminal, "console", screen)
    versions = new_table("asset", "partition", "version", "when (UTC)", "run", ">rows", ">size", "")
    versions.add_row("reranked_candidates", "amazon", VERSION, "2026-11-26 22:28", "3586da13", "7", "9 MB", "current")
    show_table(versions, spare=("when (UTC)", "size", "rows", "run"))
    return output.getvalue()


@pytest.mark.parametrize("width", [80, 120, 160])
def test_names_are_whole_and_lines_fit_the_screen(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    lines = shown(monkeypatch, width).splitlines()
    for name in (VERSION, "current", "reranked_candidates"):
        assert any(name in line for line in lines), name
    # Bold and dim have marks that take no room.
    assert (
        max(len(line.replace("\x1b[1m", "").replace("\x1b[0m", "").replace("\x1b[2m", "")) for line in lines) <= width
    )


def test_on_a_narrow_screen_a_table_says_what_it_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "left out on this screen, not in a pipe: when (UTC), size, rows" in shown(monkeypatch, 80)
    assert "left out" not in shown(monkeypatch, 120)


def test_a_pipe_has_whole_rows_whatever_the_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(monkeypatch, 40, pipe=True).splitlines()
    (row,) = [line for line in lines if VERSION in line]
    assert row.split()[:2] == ["reranked_candidates", "amazon"]
    assert row.split()[-2:] == ["MB", "current"]


def test_a_screen_narrower_than_a_name_wraps_lines_and_cuts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert VERSION in shown(monkeypatch, 40)
