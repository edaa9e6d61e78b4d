import json
from pathlib import Path

import polars as pl
import pytest

from personarank_dagster.core import schemas
from personarank_dagster.core.errors import ContractError
from personarank_dagster.storage.tables import check_table, table_version, write_reranked_lines

TABLE = pl.DataFrame({"user_id": ["u", "v"], "item_id": ["a", None]}, schema=schemas.GROUND_TRUTH)


def test_a_table_with_the_schema_and_a_unique_key_passes() -> None:
    assert check_table("ground_truth", TABLE, schemas.GROUND_TRUTH, ["user_id"]) is None


def test_another_schema_a_null_key_and_a_repeated_key_break_the_contract() -> None:
    with pytest.raises(ContractError, match="truth: expected columns user_id: String, item_id: String, got user_id"):
        check_table("truth", TABLE.with_columns(x=1), schemas.GROUND_TRUTH, [])
    with pytest.raises(ContractError, match="truth: item_id must not be null, got 1 nulls"):
        check_table("truth", TABLE, schemas.GROUND_TRUTH, ["item_id"])
    with pytest.raises(
        ContractError, match=r"user_id must be unique, got 1 repeated rows such as \{'user_id': 'u'\}"
    ):
        check_table("truth", pl.concat([TABLE, TABLE.head(1)]), schemas.GROUND_TRUTH, ["user_id"])


def test_the_version_depends_on_content_order_and_types_not_on_chunks() -> None:
    version = table_version(TABLE)
    assert table_version(pl.concat([TABLE.head(1), TABLE.tail(1)], rechunk=False)) == version
    assert table_version(TABLE.reverse()) != version
    assert table_version(TABLE.with_columns(item_id=pl.lit("a"))) != version
    assert table_version(TABLE.rename({"item_id": "asin"})) != version


def test_reranked_lists_are_written_a_user_a_line_best_first(tmp_path: Path) -> None:
    rows = [
        ("v", 1, "a", 0.9, 2, 0.1, 0.7, "a_P1"),
        ("v", 2, "b", 0.5, 1, 0.4, None, None),
        ("u", 1, "a", 1.0, 1, 0.3, 0.2, "a_P2"),
    ]
    write_reranked_lines(pl.DataFrame(rows, schema=schemas.RERANKED, orient="row"), tmp_path / "r.jsonl")
    lists = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert [found["user_id"] for found in lists] == ["v", "u"]
    assert lists[0]["results"][1] == {
        "item_id": "b",
        "score": 0.5,
        "candidate_score": 0.4,
        "persona_score": None,
        "unique_persona_id": None,
    }
