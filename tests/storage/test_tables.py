import polars as pl
import pytest

from personarank_dagster.core import schemas
from personarank_dagster.core.errors import ContractError
from personarank_dagster.storage.tables import check_table, table_version

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
