import polars as pl

from personarank_dagster.core import schemas
from personarank_dagster.defs.preparation.pictures import evidence_table, left_out_table
from personarank_dagster.preparation.stage_runs import StageReport


def test_items_that_lack_most_reviews_stand_first() -> None:
    report = StageReport("item_summaries", 30, 0, left_out_of_row={f"i{n:02}": 1 + n % 3 for n in range(22)})
    lines = (left_out_table(report) or "").split("\n")
    assert lines[2:4] == ["| i02 | 3 |", "| i05 | 3 |"]
    assert lines[-1] == "and 2 others"
    assert left_out_table(StageReport("item_summaries", 30, 0)) is None


def test_personas_stand_with_the_reviews_that_they_rest_on() -> None:
    names = dict.fromkeys(schemas.PERSONAS, "x") | {"item_id": "i", "unique_persona_id": "i_P1", "name": "The | one"}
    table = pl.DataFrame([names | {"review_ids": ["r1", "r2"]}], schema=schemas.ITEM_PERSONAS)
    assert (evidence_table(table) or "").split("\n")[-1] == "| i | The \\| one | r1, r2 |"
    assert evidence_table(table.clear()) is None
