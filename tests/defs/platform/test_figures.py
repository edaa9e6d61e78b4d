import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from personarank_dagster.defs.platform.figures import MAX_PICTURE_CHARACTERS, drawn, new_figure, picture


def image(markdown: str) -> Image.Image:
    match = re.fullmatch(r"!\[.*\]\(data:image/png;base64,(.+)\)", markdown)
    assert match
    assert len(match[1]) <= MAX_PICTURE_CHARACTERS
    return Image.open(io.BytesIO(base64.b64decode(match[1])))


def test_a_figure_becomes_a_picture_with_its_titles_as_text() -> None:
    figure, (left, right) = new_figure(columns=2)
    left.plot([3, 2, 1])
    left.set_title("loss")
    right.bar(["a"], [1])
    right.set_title("share")
    value = picture(figure).value
    assert value.startswith("![loss; share](")
    assert image(value).width > 900


def test_what_is_drawn_in_words_is_markdown_and_what_fails_costs_a_warning() -> None:
    warnings: list[str] = []
    shown = drawn({"words": lambda: "**3**", "nothing": lambda: None, "broken": lambda: str(1 // 0)}, warnings.append)
    assert shown["words"].value == "**3**"
    assert shown.keys() == {"words", "broken"}
    assert "picture broken could not be drawn" in warnings[0]


def test_a_picture_of_noise_is_drawn_coarser_until_it_fits() -> None:
    figure, (axes,) = new_figure()
    axes.imshow(np.random.default_rng(0).random((400, 600, 3)))
    assert 50 < image(picture(figure).value).width < 400


def test_equal_figures_give_equal_pictures() -> None:
    def draw() -> str:
        figure, (axes,) = new_figure()
        axes.hist([1, 2, 2, 3])
        return picture(figure).value

    assert draw() == draw()


def test_what_goes_wrong_costs_one_picture_and_a_warning() -> None:
    warnings: list[str] = []

    def broken() -> None:
        raise ValueError("Too many bins\nand more")

    shown = drawn({"broken": broken, "whole": lambda: new_figure()[0], "needless": lambda: None}, warnings.append)
    assert shown.keys() == {"broken", "whole"}
    assert shown["broken"].value == "no picture: ValueError: Too many bins"
    assert shown["whole"].value.startswith("![](data:image/png")
    assert warnings == [
        "the picture broken could not be drawn, and nothing else is affected: ValueError: Too many bins"
    ]


def test_a_run_that_is_interrupted_while_it_draws_ends() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        drawn({"curves": interrupted}, print)
