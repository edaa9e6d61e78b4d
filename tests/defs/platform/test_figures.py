import base64
import io
import re

import numpy as np
from PIL import Image

from personarank_dagster.defs.platform.figures import MAX_PICTURE_CHARACTERS, new_figure, picture


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
