"""Pictures: figures as metadata, and the asset graph."""

import base64
import io
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyBboxPatch

# Pictures travel inside of events: each is stored with its run and sent with every page that lists it.
MAX_PICTURE_CHARACTERS = 100_000
DPI = 120
# Inches. The UI cuts off what is wider than two columns.
COLUMN, HEIGHT = 4.2, 2.8
MAX_WIDTH = 2 * COLUMN

COLUMN_WIDTH, ROW_HEIGHT = 2.2, 0.6
BOX_WIDTH, BOX_HEIGHT = 1.7, 0.4
COLORS = {
    "raw_files": "#e8e8e8",
    "inputs": "#cfe3f5",
    "training": "#f8d9b8",
    "caches": "#d8ecd0",
    "ranking": "#e8d5f0",
}


def new_figure(*, columns: int = 1, height: float = HEIGHT) -> tuple["Figure", list["Axes"]]:
    """An empty figure of the size that pictures in the UI have, and its axes from left to right."""
    from matplotlib.figure import Figure

    width = min(COLUMN * columns, MAX_WIDTH)
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = [figure.add_subplot(1, columns, column + 1) for column in range(columns)]
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
        each.tick_params(labelsize=8)
    return figure, axes


def legend_below(axes: "Axes", *, columns: int) -> None:
    """A legend under the axes, where it covers nothing."""
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.24), ncols=columns, fontsize=8, frameon=False)


def picture(figure: "Figure") -> dg.MarkdownMetadataValue:
    """The figure as metadata that the UI shows; its titles are the text for those who cannot see it.

    A picture of more than 100,000 characters is drawn coarser until it fits.
    """
    for axes in figure.axes:
        axes.title.set_fontsize(10)
    titles = "; ".join(title for axes in figure.axes if (title := axes.get_title()))
    dpi = DPI
    while len(encoded := base64.b64encode(_png(figure, dpi)).decode()) > MAX_PICTURE_CHARACTERS:
        dpi = dpi * 2 // 3
    return dg.MetadataValue.md(f"![{titles}](data:image/png;base64,{encoded})")


def reuse_picture(counts: Mapping[str, Any]) -> dict[str, dg.MarkdownMetadataValue]:
    """How many vectors were there already and how many were encoded, as metadata; nothing where none were needed."""
    reused, encoded = counts.get("reused", 0), counts.get("encoded", 0)
    if not reused + encoded:
        return {}
    figure, (axes,) = new_figure()
    bars = axes.bar(["there already", "encoded now"], [reused, encoded], color=["#8fb58a", "#d9843b"])
    axes.bar_label(bars, fmt="{:,.0f}", fontsize=8)
    axes.set_title(f"{reused / (reused + encoded):.1%} of the vectors reused".replace("%", " %"))
    return {"reuse": picture(figure)}


def _png(figure: "Figure", dpi: int) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def draw_graph(specs: Sequence[dg.AssetSpec], path: Path) -> None:
    """Draw assets in columns from left to right, each right of all that it is made from; the given order counts."""
    from matplotlib import rcParams
    from matplotlib.figure import Figure

    # Text stays text, and nothing in the file depends on the time.
    rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "personarank"})
    columns = _columns({spec.key: [dep.asset_key for dep in spec.deps] for spec in specs})
    height = max(map(len, columns))
    figure = Figure(figsize=(COLUMN_WIDTH * len(columns), ROW_HEIGHT * height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    axes.set_xlim(-0.2, COLUMN_WIDTH * (len(columns) - 1) + BOX_WIDTH + 0.2)
    axes.set_ylim(-ROW_HEIGHT * (height - 0.5), ROW_HEIGHT / 2)
    _draw(axes, specs, _places(columns))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _draw(axes: "Axes", specs: Sequence[dg.AssetSpec], places: Mapping[dg.AssetKey, tuple[float, float]]) -> None:
    arrow = {"arrowstyle": "-|>", "color": "#888888", "lw": 0.8}
    for spec in specs:
        x, y = places[spec.key]
        for parent in sorted((dep.asset_key for dep in spec.deps), key=dg.AssetKey.to_user_string):
            from_x, from_y = places[parent]
            axes.annotate("", xy=(x, y), xytext=(from_x + BOX_WIDTH, from_y), arrowprops=arrow, zorder=0)
        color = COLORS[str(spec.group_name)]
        axes.add_patch(_box(x, y, color))
        axes.text(x + BOX_WIDTH / 2, y, " / ".join(spec.key.path), ha="center", va="center", size=9)


def _box(x: float, y: float, color: str) -> "FancyBboxPatch":
    from matplotlib.patches import FancyBboxPatch

    corner = (x, y - BOX_HEIGHT / 2)
    style = "round,pad=0,rounding_size=0.1"
    return FancyBboxPatch(corner, BOX_WIDTH, BOX_HEIGHT, boxstyle=style, facecolor=color, edgecolor="#555555")


def _columns(parents: Mapping[dg.AssetKey, Sequence[dg.AssetKey]]) -> list[list[dg.AssetKey]]:
    """Assets by the length of the longest way to them, in their given order within a column."""

    @cache
    def depth(key: dg.AssetKey) -> int:
        return max((depth(parent) + 1 for parent in parents[key]), default=0)

    num_columns = max(map(depth, parents)) + 1
    return [[key for key in parents if depth(key) == column] for column in range(num_columns)]


def _places(columns: Sequence[Sequence[dg.AssetKey]]) -> dict[dg.AssetKey, tuple[float, float]]:
    """Left edge and middle of each box; columns hang from the top, so that long arrows run below them."""
    return {
        key: (x * COLUMN_WIDTH, -ROW_HEIGHT * row) for x, keys in enumerate(columns) for row, key in enumerate(keys)
    }
