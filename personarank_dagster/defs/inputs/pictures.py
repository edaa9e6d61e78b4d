"""Pictures of the input tables: how long texts, how long lists and histories, which scores and ratings."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import polars as pl

from personarank_dagster.defs.platform.figures import new_figure, picture
from personarank_dagster.storage.tables import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PICTURE = "distributions"
BINS, COLOR = 40, "#4f81bd"

# Columns that are no texts, though they are strings.
IDS = ("user_id", "item_id", "target_item_id", "persona_id", "unique_persona_id")


def input_picture(asset: str, table: Table) -> dict[str, Any]:
    """The picture of a table as metadata; none of an empty table or of one that needs none."""
    draw = DRAWN.get(asset)
    height = table.lazy().select(pl.len()).collect().item()
    return {PICTURE: picture(draw(table.lazy()))} if draw and height else {}


def _personas(table: pl.LazyFrame) -> "Figure":
    return _histograms(
        {"characters of a persona": _text_lengths(table), "personas of an item": _group(table, "item_id")}
    )


def _histories(table: pl.LazyFrame) -> "Figure":
    return _histograms(
        {
            "characters of an interaction": _text_lengths(table),
            "interactions of a user": _group(table, "user_id"),
            "rating": table.select("rating").collect().to_series(),
        }
    )


def _selections(table: pl.LazyFrame) -> "Figure":
    return _histograms(
        {
            "selections of a user": _group(table, "user_id"),
            "selections of a persona": _group(table, "unique_persona_id"),
        }
    )


def _candidates(table: pl.LazyFrame) -> "Figure":
    return _histograms(
        {
            "candidate score": table.select("candidate_score").collect().to_series(),
            "length of a list": _group(table, "user_id"),
        }
    )


DRAWN: dict[str, Callable[[pl.LazyFrame], "Figure"]] = {
    "personas": _personas,
    "histories": _histories,
    "selected_personas": _selections,
    "candidates": _candidates,
}


def _histograms(values: dict[str, pl.Series]) -> "Figure":
    figure, axes = new_figure(columns=len(values))
    for each, (title, numbers) in zip(axes, values.items(), strict=True):
        known = numbers.drop_nulls()
        if len(known) and (known == known.round()).all():
            _whole_numbers(each, known)
        else:
            each.hist(known, bins=BINS, color=COLOR)
        each.set_title(title)
    axes[0].set_ylabel("how many")
    return figure


def _whole_numbers(axes: "Axes", numbers: pl.Series) -> None:
    """A histogram whose bins hold as many whole numbers each: one, or as few as give at most 40 bins."""
    low, high = int(cast(float, numbers.min())), int(cast(float, numbers.max()))
    width = (high - low) // BINS + 1
    edges = [edge - 0.5 for edge in range(low, high + width + 1, width)]
    axes.hist(numbers, bins=edges, rwidth=0.9, color=COLOR)
    axes.set_xlim(low - width, high + width)
    axes.locator_params(axis="x", integer=True)


def _text_lengths(table: pl.LazyFrame) -> pl.Series:
    """Characters of all texts of each row."""
    texts = [name for name, dtype in table.collect_schema().items() if dtype == pl.String and name not in IDS]
    lengths = pl.sum_horizontal(pl.col(name).str.len_chars().fill_null(0) for name in texts)
    return table.select(length=lengths).collect(engine="streaming").to_series()


def _group(table: pl.LazyFrame, key: str) -> pl.Series:
    """Rows of each value of the key."""
    return table.group_by(key).len().select("len").collect(engine="streaming").to_series()
