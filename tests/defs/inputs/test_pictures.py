import sys

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from personarank_dagster.configuration.dataset import load_dataset
from personarank_dagster.core import schemas
from personarank_dagster.defs.inputs.pictures import DRAWN, distributions
from personarank_dagster.defs.platform.figures import MAX_WIDTH, picture
from personarank_dagster.raw import ingestion
from tests.defs.platform.test_figures import image
from tests.workspace import ROOT

CONFIG = load_dataset(ROOT / "configs", "amazon")


def tables() -> dict[str, pl.DataFrame]:
    personas = ingestion.read_personas(CONFIG.raw_path("persona")).frame
    return {
        "personas": personas,
        "histories": ingestion.read_histories(CONFIG.raw_path("loo_history"), "amazon").frame,
        "selected_personas": ingestion.read_selections(CONFIG.raw_path("selected"), personas).frame,
        "candidates": ingestion.read_candidates(CONFIG.raw_path("candidates")).frame,
    }


def shown(asset: str, table: pl.DataFrame | pl.LazyFrame) -> str:
    figure = distributions(asset, table)
    assert figure is not None
    return str(picture(figure).value)


def test_every_input_with_distributions_has_a_picture_and_no_text_in_it() -> None:
    found = tables()
    assert found.keys() == DRAWN.keys()
    for asset, table in found.items():
        markdown = shown(asset, table)
        assert markdown.startswith("![")
        assert image(markdown).width <= 120 * MAX_WIDTH, "the UI would cut it off"
        assert table["user_id" if "user_id" in table.columns else "item_id"][0] not in markdown


def test_a_table_on_disk_gives_the_same_picture(tmp_path: object) -> None:
    table = tables()["histories"]
    table.write_parquet(f"{tmp_path}/table.parquet")
    assert shown("histories", pl.scan_parquet(f"{tmp_path}/table.parquet")) == shown("histories", table)


@pytest.mark.parametrize("asset", ["candidates", "ground_truth"])
def test_an_empty_table_has_no_picture(asset: str) -> None:
    assert distributions(asset, pl.DataFrame(schema=schemas.CANDIDATES)) is None


def bars_of_scores(*scores: float) -> list[tuple[float, float]]:
    """Middle and height of each bar of the picture of one list's scores."""
    rows = [("u", place, f"i{place}", score) for place, score in enumerate(scores, 1)]
    figure = distributions("candidates", pl.DataFrame(rows, schema=schemas.CANDIDATES, orient="row"))
    assert figure is not None
    picture(figure)
    found = [(bar.get_x() + bar.get_width() / 2, bar.get_height()) for bar in figure.axes[0].patches]
    return [(pytest.approx(middle), height) for middle, height in found if height]


def test_scores_that_are_equal_but_for_rounding_are_one_bar() -> None:
    assert bars_of_scores(0.30000000000000004, 0.3, 0.3) == [(0.3, 3)]
    assert bars_of_scores(1e17, 1e17) == [(1e17, 2)]


def test_scores_of_the_whole_range_of_doubles_are_drawn_in_units_of_a_power_of_ten() -> None:
    width = 3.4 / 40
    assert bars_of_scores(1.7e308, 0.01, -1.7e308, -1.7e308) == [
        (-1.7 + width / 2, 2),
        (width / 2, 1),
        (1.7 - width / 2, 1),
    ]


@settings(deadline=None, max_examples=20)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=5))
@example([sys.float_info.max, -sys.float_info.max])
@example([5e-324, 0.0])
def test_any_scores_can_be_drawn(scores: list[float]) -> None:
    assert sum(height for _, height in bars_of_scores(*scores)) == len(scores)
