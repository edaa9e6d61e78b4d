"""Figures as metadata that the UI shows. What goes wrong in one costs that picture and a warning, nothing else."""

import base64
import io
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Draws one picture, or writes one in Markdown; None where there is nothing to see.
Draw = Callable[[], "Figure | str | None"]

# Characters of an error that stands where a picture should.
CELL_CHARACTERS = 48
SHOWN_ERROR = 200

# Pictures travel inside of events: each is stored with its run and sent with every page that lists it.
MAX_PICTURE_CHARACTERS = 100_000
DPI = 120
# Inches. The UI cuts off what is wider than two columns.
COLUMN, HEIGHT = 4.2, 2.8
MAX_WIDTH = 2 * COLUMN


def new_figure(*, columns: int = 1, height: float = HEIGHT, shared: bool = False) -> tuple["Figure", list["Axes"]]:
    """An empty figure of the size that pictures in the UI have, and its axes from left to right: one if `shared`."""
    from matplotlib.figure import Figure

    width = min(COLUMN * columns, MAX_WIDTH)
    figure = Figure(figsize=(width, height), layout="constrained")
    parts = 1 if shared else columns
    axes = [figure.add_subplot(1, parts, part + 1) for part in range(parts)]
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
        each.tick_params(labelsize=8)
    return figure, axes


def legend_below(axes: "Axes", *, columns: int) -> None:
    """A legend under the axes, where it covers nothing."""
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.24), ncols=columns, fontsize=8, frameon=False)


def drawn(pictures: Mapping[str, Draw], warn: Callable[[str], None]) -> dict[str, dg.MetadataValue[Any]]:
    """The pictures by their names; whatever goes wrong in one is warned of, and stands in its place."""
    shown = {name: _drawn(name, draw, warn) for name, draw in pictures.items()}
    return {name: value for name, value in shown.items() if value is not None}


def _drawn(name: str, draw: Draw, warn: Callable[[str], None]) -> dg.MetadataValue[Any] | None:
    try:
        figure = draw()
        if figure is None:
            return None
        return dg.MetadataValue.md(figure) if isinstance(figure, str) else picture(figure)
    except Exception as error:
        problem = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"[:SHOWN_ERROR]
        warn(f"the picture {name} could not be drawn, and nothing else is affected: {problem}")
        return dg.MetadataValue.text(f"no picture: {problem}")


def cell(text: str, *, most: int = CELL_CHARACTERS) -> str:
    """A text as it stands in a cell of a table: one line, cut, with nothing that Markdown would take for its own."""
    line = " ".join(text.split())
    cut = line if len(line) <= most else f"{line[: most - 1]}…"
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]<>#|~!" else letter for letter in cut)


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


def _png(figure: "Figure", dpi: int) -> bytes:
    """The figure, drawn once: `savefig` draws everything a second time, for its layout alone."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    figure.dpi = dpi
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(canvas.buffer_rgba())).save(buffer, "png", dpi=(dpi, dpi))
    return buffer.getvalue()
