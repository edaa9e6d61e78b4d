"""What `personarank compare` shows."""

from dataclasses import asdict
from typing import Any

from rich.markup import escape

from personarank_dagster.command_line.console import resolve
from personarank_dagster.command_line.reports.version_reports import check_version
from personarank_dagster.command_line.terminal import console, new_table, show_table
from personarank_dagster.core.errors import UsageError
from personarank_dagster.core.quantities import interval, percent
from personarank_dagster.definitions import project
from personarank_dagster.defs.ranking.comparisons import ASSET, compare_versions


def compare_and_report(partition: str, first: str, second: str, *, as_json: bool) -> None:
    """Print the metrics of both versions side by side."""
    names = resolve((partition,))
    if len(names) != 1:
        raise UsageError("PARTITION must be one dataset, got all")
    for version in (first, second):
        check_version(project.versions(ASSET, names[0]), version)
    found = compare_versions(project, names[0], first, second)
    if as_json:
        console.print_json(data=asdict(found))
        return
    others = f", {found.others:,} users in one of them alone" if found.others else ""
    title = f"{found.partition} · {found.users:,} users{others} · first {first}, second {second}"
    table = new_table("metric", ">first", ">second", ">lift", ">95 % interval", ">p (Holm)", title=title)
    for row in found.metrics:
        means = [f"{row[name]:.4f}" for name in ("first", "second")]
        table.add_row(f"{row['metric']}@{row['k']}", *means, *_lift(row))
    show_table(table)


def _lift(row: dict[str, Any]) -> tuple[str, str, str]:
    if row["lift"] is None:
        return "", "", ""
    return percent(row["lift"], signed=True), escape(interval(row["low"], row["high"])), f"{row['p']:.3g}"
