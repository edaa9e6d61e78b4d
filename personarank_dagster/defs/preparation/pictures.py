"""Pictures of the stages that ask a language model."""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

import polars as pl

from personarank_dagster.defs.platform.figures import Draw, cell, new_figure
from personarank_dagster.preparation.stage_runs import StageReport

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# Of a table that is there to be looked at.
SHOWN_ROWS = 20


def pictures_of(table: pl.DataFrame, report: StageReport) -> Mapping[str, Draw]:
    """What a stage shows: how answers ended, what they took, what did not fit; and of personas what they rest on."""
    shown: dict[str, Draw] = {
        "answers": partial(answer_bars, report),
        "reviews_that_did_not_fit": partial(left_out_table, report),
    }
    if "unique_persona_id" in table.columns and "review_ids" in table.columns:
        shown["personas"] = partial(personas_per_item, table)
        shown["evidence"] = partial(evidence_table, table)
    return shown


def answer_bars(report: StageReport) -> "Figure | None":
    """How questions ended, those kept included, and the tokens that were ever used for them."""
    ends = {"kept": report.kept, **report.outcomes, "set aside": report.set_aside}
    ends = {name: count for name, count in ends.items() if count}
    if not ends:
        return None
    figure, (left, right) = new_figure(columns=2)
    left.bar_label(left.barh(list(ends), list(ends.values()), color="#8fb58a"), fmt="{:,.0f}", fontsize=8)
    left.set_title("answers by how they ended")
    spent = report.spent_in_all
    bars = right.bar(["in", "out"], [spent.tokens_in, spent.tokens_out], color="#d9843b")
    right.bar_label(bars, fmt="{:,.0f}", fontsize=8)
    right.set_title(f"tokens of {report.stage}, all runs")
    return figure


def personas_per_item(table: pl.DataFrame) -> "Figure | None":
    """How many items have how many personas."""
    counts = table.group_by("item_id").len().group_by("len").agg(items=pl.len()).sort("len")
    if counts.is_empty():
        return None
    figure, (axes,) = new_figure()
    axes.bar_label(axes.bar(counts["len"], counts["items"], color="#4f81bd"), fontsize=8)
    axes.set_title("personas of an item")
    axes.locator_params(axis="x", integer=True)
    return figure


def left_out_table(report: StageReport) -> str | None:
    """Rows whose prompt had no room for all reviews, those that lack most first."""
    lacking = sorted(report.left_out_of_row.items(), key=lambda row: (-row[1], row[0]))
    if not lacking:
        return None
    lines = [f"| {cell(row)} | {count:,} |" for row, count in lacking[:SHOWN_ROWS]]
    more = [f"\nand {len(lacking) - SHOWN_ROWS:,} others"] if len(lacking) > SHOWN_ROWS else []
    return "\n".join(["| item | reviews that did not fit |", "|---|---|", *lines, *more])


def evidence_table(table: pl.DataFrame) -> str | None:
    """Some personas with the ids of the reviews that each rests on."""
    shown = table.sort("unique_persona_id").head(SHOWN_ROWS).select("item_id", "name", "review_ids")
    lines = [
        f"| {cell(item)} | {cell(name)} | {cell(', '.join(ids), most=400)} |" for item, name, ids in shown.iter_rows()
    ]
    return "\n".join(["| item | persona | reviews |", "|---|---|---|", *lines]) if lines else None
