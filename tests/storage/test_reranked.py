import json
from pathlib import Path

import polars as pl
import pytest

from personarank_dagster.core import schemas
from personarank_dagster.core.errors import ContractError
from personarank_dagster.storage import reranked
from personarank_dagster.storage.reranked import check_reranked, read_reranked_lines, spool, write_reranked_lines

ROWS = [
    ("v", 1, "a", 0.9, 2, 0.1, 0.7, "a_P1", [{"item_id": "x", "contribution": 0.5}], 0.25),
    ("v", 2, "b", 0.5, 1, 0.4, None, None, [], 0.25),
    ("u", 1, "a", 1.0, 1, 0.3, 0.2, "a_P2", [], 0.5),
]
TABLE = pl.DataFrame(ROWS, schema=schemas.RERANKED, orient="row")


def test_reranked_lists_are_written_a_user_a_line_best_first(tmp_path: Path) -> None:
    write_reranked_lines(TABLE, tmp_path / "r.jsonl")
    lists = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert [(found["user_id"], found["alpha"]) for found in lists] == [("v", 0.25), ("u", 0.5)]
    assert lists[0]["results"][0] == {
        "item_id": "a",
        "score": 0.9,
        "candidate_score": 0.1,
        "persona_score": 0.7,
        "unique_persona_id": "a_P1",
        "candidate_rank": 2,
        "interactions": [{"item_id": "x", "contribution": 0.5}],
    }
    assert lists[0]["results"][1]["persona_score"] is None


def test_lines_that_were_written_are_read_with_their_places(tmp_path: Path) -> None:
    write_reranked_lines(TABLE, tmp_path / "r.jsonl")
    assert read_reranked_lines(tmp_path / "r.jsonl").equals(
        TABLE.select("user_id", "rank", "item_id", "candidate_rank")
    )


def test_lists_in_several_parts_lie_in_files_that_go_with_the_table(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(reranked, "BLOCK_ROWS", 1)
    table = spool(iter([TABLE[:2], TABLE[2:]]), tmp_path / "scratch")
    assert isinstance(table, pl.LazyFrame)
    assert table.collect().equals(TABLE)
    check_reranked("lists", table)
    del table
    assert not list((tmp_path / "scratch").glob("*/*.parquet"))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (TABLE[[1, 0, 2]], "places must count from 1, with each candidate once, got others for 1 users such as v"),
        (TABLE.with_columns(item_id=pl.lit("a")), "such as v"),
        (TABLE.with_columns(candidate_rank=pl.lit(1, dtype=pl.UInt32)), "such as v"),
    ],
)
def test_lists_with_wrong_places_repeated_items_or_users_break_the_contract(
    wrong: pl.DataFrame, message: str
) -> None:
    check_reranked("lists", TABLE)
    with pytest.raises(ContractError, match=message):
        check_reranked("lists", wrong)


def test_two_lists_of_a_user_break_the_contract(monkeypatch) -> None:
    monkeypatch.setattr(reranked, "BLOCK_ROWS", 1)
    with pytest.raises(ContractError, match="each user must have one list, got 1 more"):
        check_reranked("lists", pl.concat([TABLE, TABLE[:2]]))
