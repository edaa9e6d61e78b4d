import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from personarank_dagster.core.errors import InputError
from personarank_dagster.raw import ingestion
from personarank_dagster.raw.bad_lines import ReadRules
from tests.raw.files import PERSONA, lines

QUARANTINE = ReadRules(on_bad_row="quarantine", max_bad_share=1.0)


def item(item_id: str, *persona_ids: str) -> dict[str, Any]:
    return {"item_id": item_id, "personas": [PERSONA | {"ID": persona_id} for persona_id in persona_ids]}


def test_an_item_that_comes_again_is_named_with_both_lines(tmp_path: Path) -> None:
    path = lines(tmp_path / "p.jsonl", item("A", "P1", "P2"), "", item("B", "P1"), item("A", "P3", "P2"))
    with pytest.raises(InputError) as error:
        ingestion.read_personas(path)
    problem = "expected each ID of an item once, got 'P2' of item 'A' again, after line 1"
    remedy = "fix the line or set on_bad_row: quarantine"
    assert str(error.value) == f"{path} line 4, field personas[1].ID: {problem}; {remedy}"


def test_ids_that_collide_are_told_apart(tmp_path: Path) -> None:
    path = lines(tmp_path / "p.jsonl", item("X", "Y_P1"), item("X_Y", "P1"))
    with pytest.raises(InputError, match=r"got 'X_Y_P1' for 'P1' of item 'X_Y', after 'Y_P1' of item 'X' in line 1"):
        ingestion.read_personas(path)


def test_the_line_that_repeats_is_set_aside_whole_and_verbatim(tmp_path: Path) -> None:
    again = item("A", "P9", "P1")
    path = lines(tmp_path / "p.jsonl", item("A", "P1"), again, item("B", "P1"))
    ingested = ingestion.read_personas(path, QUARANTINE)
    assert ingested.table["unique_persona_id"].to_list() == ["A_P1", "B_P1"]
    assert [(bad.line, json.loads(bad.content)) for bad in ingested.bad_lines] == [(2, again)]
    assert ingested.read == 3


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_a_repetition_in_another_part_names_that_part(tmp_path: Path, ending: str) -> None:
    lines(tmp_path / "a.jsonl", item("A", "P1"))
    path = tmp_path / f"b.{ending}"
    rows = [item("B", "P1"), item("A", "P1")]
    pl.DataFrame(rows).write_parquet(path) if ending == "parquet" else lines(path, *rows)
    (bad,) = ingestion.read_personas(tmp_path, QUARANTINE).bad_lines
    assert (bad.path, bad.line) == (path, 2)
    assert bad.problem.endswith(f"again, after {tmp_path}/a.jsonl line 1")


IDS = st.sampled_from(["a", "a_a", "b", "a_b"])


@given(rows=st.lists(st.tuples(IDS, st.lists(IDS, max_size=3)), min_size=1, max_size=6))
def test_lines_are_kept_in_order_unless_an_earlier_one_has_an_id(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, list[str]]]
) -> None:
    path = lines(tmp_path_factory.mktemp("p") / "p.jsonl", *(item(name, *ids) for name, ids in rows))
    kept: list[str] = []
    for name, ids in rows:
        full = [f"{name}_{one}" for one in ids]
        kept += full if len(set(full)) == len(full) and not set(full) & set(kept) else []
    ingested = ingestion.read_personas(path, QUARANTINE)
    assert ingested.table["unique_persona_id"].to_list() == kept
