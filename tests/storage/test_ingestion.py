import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from personarank_dagster.core.errors import InputError
from personarank_dagster.storage import ingestion

REVIEW = {
    "item_id": "i1",
    "rating": 5.0,
    "timestamp": 1_600_000_000_000,
    "summary": "A lamp",
    "extracted": {},
}


def lines(path: Path, *rows: Any) -> Path:
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def history(tmp_path: Path, *reviews: dict[str, Any], user: str = "u") -> Path:
    return lines(tmp_path / "h.jsonl", {"user_id": user, "reviews": [{**REVIEW, **review} for review in reviews]})


@pytest.mark.parametrize(
    "timestamp", [1_600_000_000, 1_600_000_000_000, "2020-09-13 12:26:40", "2020-09-13T14:26:40+02:00"]
)
def test_every_form_of_a_timestamp_is_one_utc_column(tmp_path: Path, timestamp: Any) -> None:
    table = ingestion.read_histories(history(tmp_path, {"timestamp": timestamp}), "amazon").table
    assert table["timestamp"].dt.strftime("%FT%T%z").to_list() == ["2020-09-13T12:26:40+0000"]


@pytest.mark.parametrize("name", ["item_id", "business_id", "asin", "parent_asin"])
def test_every_name_of_the_item_id_is_accepted(tmp_path: Path, name: str) -> None:
    path = lines(tmp_path / "gt.jsonl", {"user_id": "u", name: "i1"})
    assert ingestion.read_ground_truth(path).table.rows() == [("u", "i1")]


@pytest.mark.parametrize("extracted", [{"usage_context": "bed"}, json.dumps({"usage_context": "bed"})])
def test_aspects_come_as_an_object_or_as_its_text(tmp_path: Path, extracted: Any) -> None:
    table = ingestion.read_histories(history(tmp_path, {"extracted": extracted}), "amazon").table
    assert table["usage_context"].to_list() == ["bed"]


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "parquet"])
def test_every_file_format_gives_the_same_table(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"h.{ending}"
    row = {"user_id": "u", "reviews": [REVIEW | {"extracted": {"usage_context": "bed"}}]}
    if ending == "parquet":
        pl.DataFrame([row]).write_parquet(path)
    else:
        lines(path, row)
    table = ingestion.read_histories(path, "amazon").table
    assert table.select("user_id", "item_id", "rating", "usage_context").rows() == [("u", "i1", 5.0, "bed")]


def test_histories_are_chronological_with_ties_in_file_order(tmp_path: Path) -> None:
    path = history(
        tmp_path,
        {"item_id": "late", "timestamp": 3_000},
        {"item_id": "tie1", "timestamp": 2_000},
        {"item_id": "tie2", "timestamp": 2_000},
    )
    table = ingestion.read_histories(path, "amazon").table
    assert table.select("item_id", "position").rows() == [("tie1", 0), ("tie2", 1), ("late", 2)]


def test_ground_truth_items_are_left_out_of_histories_and_counted(tmp_path: Path) -> None:
    truth = pl.DataFrame({"user_id": ["u", "other"], "item_id": ["i2", "i1"]})
    ingested = ingestion.read_histories(history(tmp_path, {}, {"item_id": "i2"}), "amazon", ground_truth=truth)
    assert ingested.table["item_id"].to_list() == ["i1"]
    assert (ingested.read, ingested.left_out) == (2, {"the user's ground truth": 1})


def test_missing_summaries_and_aspects_are_filled_and_counted(tmp_path: Path) -> None:
    summaries = ingestion.read_item_summaries(lines(tmp_path / "s.jsonl", {"item_id": "i1", "item_summary": "Lamp"}))
    found = {"item_id": "i1", "aspects": [{"user_id": "u", "extracted_aspects": {"usage_context": "bed"}}]}
    aspects = ingestion.read_aspects(lines(tmp_path / "a.jsonl", found), "amazon")
    path = history(tmp_path, {"summary": None, "extracted": None})
    ingested = ingestion.read_histories(path, "amazon", item_summaries=summaries, aspects=aspects)
    assert ingested.table.select("item_summary", "usage_context").rows() == [("Lamp", "bed")]
    assert ingested.filled == {"item_summary": 1, "aspects": 1}


def test_padding_and_repeated_candidates_are_left_out_and_counted(tmp_path: Path) -> None:
    found = [{"item_id": item, "score": score} for item, score in [("a", 3), ("[PAD]", 0), ("a", 2), ("b", 1)]]
    ingested = ingestion.read_candidates(lines(tmp_path / "c.jsonl", {"user_id": "u", "results": found}))
    assert ingested.table.rows() == [("u", 1, "a", 3.0), ("u", 2, "b", 1.0)]
    assert (ingested.read, ingested.left_out) == (4, {"padding": 1, "repeated candidate": 1})


PERSONAS = pl.DataFrame({"item_id": ["i1", "i1"], "unique_persona_id": ["i1_P1", "i1_P2"]})


@pytest.mark.parametrize("persona_id", ["P2", "i1_P2"])
@pytest.mark.parametrize("grouped", [False, True])
def test_selections_are_resolved_in_every_form(tmp_path: Path, persona_id: str, grouped: bool) -> None:
    one = {"target_item_id": "i1", "selected_persona_id": persona_id}
    row = {"user_id": "u", **({"persona_selections": [one]} if grouped else one)}
    ingested = ingestion.read_selections(lines(tmp_path / "s.jsonl", row), PERSONAS)
    assert ingested.table["unique_persona_id"].to_list() == ["i1_P2"]


def test_selections_that_cannot_be_used_are_left_out_by_reason(tmp_path: Path) -> None:
    targets = [("i1", "P1"), ("i1", "P9"), ("i2", "P1")]
    rows = [{"user_id": "u", "target_item_id": item, "selected_persona_id": persona} for item, persona in targets]
    truth = pl.DataFrame({"user_id": ["u"], "item_id": ["i2"]})
    ingested = ingestion.read_selections(lines(tmp_path / "s.jsonl", *rows), PERSONAS, truth)
    assert ingested.table.height == 1
    assert ingested.left_out == {
        "the target is the user's ground truth": 1,
        "the persona is not in the catalogue": 1,
    }


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"user_id": "u", "reviews": [', r"h\.jsonl line 2: not valid JSON"),
        ("null", r"h\.jsonl line 2: expected `object`, got `null`"),
        ({"reviews": []}, r"h\.jsonl line 2: object missing required field `user_id`"),
        (
            {"user_id": "u", "reviews": [REVIEW, REVIEW | {"rating": "five"}]},
            r"h\.jsonl line 2, field reviews\[1\]\.rating: expected `float`, got `str`, got 'five'",
        ),
        (
            {"user_id": "u", "reviews": [REVIEW | {"rating": 7}]},
            r"reviews\[0\]\.rating: expected `float` <= 5.0, got 7",
        ),
        (
            {"user_id": "u", "reviews": [REVIEW | {"timestamp": "soon"}]},
            r"line 2, field reviews\[0\]\.timestamp: expected epoch .* got 'soon'",
        ),
        ({"user_id": "u", "reviews": [REVIEW | {"asin": "i9"}]}, r"reviews\[0\]\.item_id: item ids differ"),
        (
            {"user_id": "u", "reviews": [REVIEW | {"user_id": "v"}]},
            r"reviews\[0\]\.user_id: expected the user of",
        ),
        ({"user_id": "u", "reviews": [REVIEW | {"item_id": None}]}, r"reviews\[0\]\.item_id: is missing"),
        (
            {"user_id": "u", "reviews": [REVIEW | {"extracted": "{"}]},
            r"reviews\[0\]\.extracted: expected an object",
        ),
    ],
)
def test_a_broken_line_stops_with_file_line_and_field(tmp_path: Path, line: Any, message: str) -> None:
    path = lines(tmp_path / "h.jsonl", {"user_id": "u", "reviews": []}, line)
    with pytest.raises(InputError, match=message):
        ingestion.read_histories(path, "amazon")


def test_a_persona_id_that_is_not_item_and_id_stops(tmp_path: Path) -> None:
    persona = {"ID": "P1", "Name": "n", "Description": "d", "Preference_Rationale": "r"}
    good = {"item_id": "i1", "personas": [persona, persona | {"ID": "P2", "unique_persona_id": "i1_P2"}]}
    table = ingestion.read_personas(lines(tmp_path / "p.jsonl", good)).table
    assert table["unique_persona_id"].to_list() == ["i1_P1", "i1_P2"]
    bad = {"item_id": "i1", "personas": [persona | {"unique_persona_id": "i9_P1"}]}
    with pytest.raises(
        InputError, match=r"line 1, field personas\[0\]\.unique_persona_id: expected 'i1_P1', got 'i9_P1'"
    ):
        ingestion.read_personas(lines(tmp_path / "p.jsonl", bad))


def test_a_file_that_is_not_there_or_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.jsonl: expected .*, got no such file"):
        ingestion.read_ground_truth(tmp_path / "gone.jsonl")
    with pytest.raises(InputError, match="got a directory"):
        ingestion.read_ground_truth(tmp_path)
    with pytest.raises(InputError, match=r"got \.csv ending"):
        ingestion.read_ground_truth(lines(tmp_path / "gt.csv"))


def test_a_truncated_gzip_is_named(tmp_path: Path) -> None:
    path = lines(tmp_path / "gt.jsonl.gz", *({"user_id": f"u{n}", "item_id": "i"} for n in range(100)))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"gt\.jsonl\.gz: cannot be read"):
        ingestion.read_ground_truth(path)
