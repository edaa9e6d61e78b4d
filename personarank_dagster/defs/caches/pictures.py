"""Pictures of the caches."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from personarank_dagster.defs.platform.figures import new_figure, picture


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
