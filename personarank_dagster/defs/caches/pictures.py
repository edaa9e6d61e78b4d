"""Pictures of the caches."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from personarank_dagster.defs.platform.figures import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def reuse_bars(counts: Mapping[str, Any]) -> "Figure | None":
    """How many vectors were there already and how many were encoded; nothing where none were needed."""
    reused, encoded = counts.get("reused", 0), counts.get("encoded", 0)
    if not reused + encoded:
        return None
    figure, (axes,) = new_figure()
    bars = axes.bar(["there already", "encoded now"], [reused, encoded], color=["#8fb58a", "#d9843b"])
    axes.bar_label(bars, fmt="{:,.0f}", fontsize=8)
    axes.set_title(f"{reused / (reused + encoded):.1%} of the vectors reused".replace("%", " %"))
    return figure
