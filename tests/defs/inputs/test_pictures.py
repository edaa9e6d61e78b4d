import polars as pl
import pytest

from personarank_dagster.configuration.dataset import load_dataset
from personarank_dagster.core import schemas
from personarank_dagster.defs.inputs.pictures import DRAWN, PICTURE, input_picture
from personarank_dagster.defs.platform.figures import MAX_WIDTH
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


def test_every_input_with_distributions_has_a_picture_and_no_text_in_it() -> None:
    found = tables()
    assert found.keys() == DRAWN.keys()
    for asset, table in found.items():
        markdown = input_picture(asset, table)[PICTURE].value
        assert markdown.startswith("![")
        assert image(markdown).width <= 120 * MAX_WIDTH, "the UI would cut it off"
        assert table["user_id" if "user_id" in table.columns else "item_id"][0] not in markdown


def test_a_table_on_disk_gives_the_same_picture(tmp_path: object) -> None:
    table = tables()["histories"]
    table.write_parquet(f"{tmp_path}/table.parquet")
    assert input_picture("histories", pl.scan_parquet(f"{tmp_path}/table.parquet")) == input_picture(
        "histories", table
    )


@pytest.mark.parametrize("asset", ["candidates", "ground_truth"])
def test_an_empty_table_has_no_picture(asset: str) -> None:
    assert input_picture(asset, pl.DataFrame(schema=schemas.CANDIDATES)) == {}
