"""What a run ends with: its checks, the metrics, and in words what of them is gain and what chance."""

from collections import Counter
from typing import Any

import polars as pl
from rich.markup import escape

from personarank_dagster.command_line.terminal import console, new_table, show_table
from personarank_dagster.core.quantities import interval, percent
from personarank_dagster.defs.automation.runs import CheckResult
from personarank_dagster.ranking.metrics import METRIC_NAMES, middle_k

COLORS = {"pass": "green", "warn": "yellow", "fail": "red", "not checked": "dim"}


def show_check_results(title: str, checks: tuple[CheckResult, ...]) -> None:
    """How many checks of a run passed, why some looked at nothing, and a line for each that did not pass."""
    results = Counter(one.result for one in checks)
    if checks:
        passed = f"{results['pass']} of {len(checks)} checks passed"
        reasons = Counter(one.summary for one in checks if one.result == "not checked")
        why = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        unseen = f", {results['not checked']} not checked ({escape(why)})" if reasons else ""
        console.print(f"{title}: {passed}{unseen}")
    for one in checks:
        if one.result in ("warn", "fail"):
            told = f"{one.asset} · {one.name} [dim]{escape(one.summary)}[/dim]"
            console.print(f"  [{COLORS[one.result]}]{one.result}[/] {told}")


def show_metric_table(name: str, table: pl.DataFrame) -> None:
    """The metrics of all users: both orders, the lift and its interval, the shuffled control, and a verdict."""
    overall = table.filter((pl.col("scenario") == "all") & pl.col("metric").is_in(METRIC_NAMES))
    title = f"{name} · {overall['users'][0]:,} users"
    shown = new_table("metric", ">candidates", ">reranked", ">lift \\[95 %]", ">shuffled", title=title)
    for row in overall.iter_rows(named=True):
        orders = (_number(row[order]) for order in ("candidate", "reranked"))
        shown.add_row(f"{row['metric']}@{row['k']}", *orders, escape(lift_of(row)), _number(row["shuffled"]))
    show_table(shown)
    headline = overall.row(by_predicate=(pl.col("metric") == "NDCG") & (pl.col("k") == middle_k(overall)), named=True)
    for line in verdict(headline):
        console.print(f"  {escape(line)}")


def lift_of(row: dict[str, Any], of: str = "lift") -> str:
    """A lift with its interval, in percent; empty where there is none."""
    low, high = (row[f"{of.removesuffix('_lift')}_{end}"] for end in ("low", "high"))
    return "" if row[of] is None else f"{percent(row[of], signed=True)} {interval(low, high)}"


def verdict(row: dict[str, Any]) -> list[str]:
    """Whether the reranking gained, whether that is personal, and what personas add to a blend that learns anyway.

    By one metric, each with its interval.
    """
    metric = f"{row['metric']}@{row['k']}"
    if row["lift"] is None:
        return [f"{metric}: the candidate order has none, so there is no lift"]
    gain = f"{metric} {lift_of(row)}: {_in_words(row['lift_low'], row['lift_high'])}"
    controls = (
        (
            "personal",
            "the profiles of other users (shuffled)",
            "what is gained is personal",
            "not shown to be personal",
        ),
        ("persona", "a blend learned without personas", "personas add to it", "not shown that personas add to it"),
    )
    return [gain] + [
        f"over {control} {lift_of(row, f'{of}_lift')}: {shown if (row[f'{of}_low'] or 0) > 0 else unsure}"
        for of, control, shown, unsure in controls
        if row[f"{of}_lift"] is not None
    ]


def _in_words(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return "too few users differ to tell it from chance"
    if low > 0:
        return "a gain that chance does not explain"
    if high < 0:
        return "a loss that chance does not explain"
    return "no gain that chance does not explain"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
