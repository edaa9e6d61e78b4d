"""The asset graph as a picture, drawn from its definitions."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from personarank_dagster.core.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.patches import FancyBboxPatch

COLUMN_WIDTH, ROW_HEIGHT = 2.2, 0.6
BOX_WIDTH, BOX_HEIGHT = 1.7, 0.4
COLORS = {
    "raw_files": "#e8e8e8",
    "preparation": "#f5f0c8",
    "inputs": "#cfe3f5",
    "training": "#f8d9b8",
    "caches": "#d8ecd0",
    "ranking": "#e8d5f0",
    "handover": "#f5d6d6",
}


def draw_graph(specs: Sequence[dg.AssetSpec], path: Path) -> None:
    """Draw assets in columns from left to right, each right of all that it is made from; the given order counts.

    Raises UsageError where the folder of the file is not there: it is more likely mistyped than wanted.
    """
    if not path.parent.is_dir():
        raise UsageError(f"--out {path}: the folder {path.parent} must be there, and is not; make it first")
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
