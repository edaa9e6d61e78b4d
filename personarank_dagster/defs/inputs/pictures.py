"""Pictures of the input tables: how long texts, how long lists and histories, which scores and ratings."""

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import numpy as np
import polars as pl

from personarank_dagster.defs.platform.figures import new_figure
from personarank_dagster.storage.tables import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BINS, COLOR = 40, "#4f81bd"
# Above, bins of whole numbers may not be told apart as doubles.
MAX_WHOLE = 1e12
# Numbers that axes can show as they are; the smallest power of ten that a number can be divided by.
MIN_PLAIN, MAX_PLAIN, MIN_EXPONENT = 1e-100, 1e100, -300

# Columns that are no texts, though they are strings.
IDS = ("user_id", "item_id", "target_item_id", "persona_id", "unique_persona_id")


def distributions(asset: str, table: Table) -> "Figure | None":
    """The picture of a table; none of an empty table or of one that needs none."""
    draw = DRAWN.get(asset)
    height = table.lazy().select(pl.len()).collect().item()
    return draw(table.lazy()) if draw and height else None


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
        _histogram(each, numbers.drop_nulls().cast(pl.Float64))
        each.set_title(title)
    axes[0].set_ylabel("how many")
    return figure


def _histogram(axes: "Axes", numbers: pl.Series) -> None:
    if numbers.is_empty():
        return
    largest = cast(float, numbers.abs().max())
    if largest <= MAX_WHOLE and (numbers == numbers.round()).all():
        _whole_numbers(axes, numbers)
    else:
        _any_numbers(axes, numbers, largest)


def _any_numbers(axes: "Axes", numbers: pl.Series, largest: float) -> None:
    """A histogram of any doubles: very large and very small ones in units of a power of ten."""
    unit = 1.0 if MIN_PLAIN <= largest <= MAX_PLAIN else 10.0 ** max(MIN_EXPONENT, np.floor(np.log10(largest)))
    scaled, size = numbers / unit, largest / unit
    low, high, bins = cast(float, scaled.min()), cast(float, scaled.max()), BINS
    if high - low <= BINS * np.spacing(size):
        # Equal, or so close that no bins fit between them: all in the middle one.
        low, high, bins = low - size / 2, high + size / 2, BINS + 1
    axes.hist(scaled, bins=bins, range=(low, high), color=COLOR)
    if unit != 1:
        axes.set_xlabel(f"times {unit:g}")


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
