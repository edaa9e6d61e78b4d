import gzip
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from personarank_dagster.core.errors import InputError
from personarank_dagster.raw import columns, ingestion
from personarank_dagster.raw.bad_lines import Account, ReadRules, write_quarantine
from personarank_dagster.raw.readers import read_tables
from tests.raw.files import REVIEW, lines


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


def test_times_of_a_parquet_file_may_be_a_column_of_times(tmp_path: Path) -> None:
    row = {"user_id": "u", "reviews": [{**REVIEW, "extracted": None, "timestamp": datetime(2020, 9, 13, 12, 26, 40)}]}
    pl.DataFrame([row]).write_parquet(tmp_path / "h.parquet")
    table = ingestion.read_histories(tmp_path / "h.parquet", "amazon").table
    assert table["timestamp"].to_list() == [datetime(2020, 9, 13, 12, 26, 40, tzinfo=UTC)]


def test_bytes_in_a_parquet_file_are_not_taken_for_text(tmp_path: Path) -> None:
    pl.DataFrame({"user_id": [b"u"], "item_id": [b"i"]}).write_parquet(tmp_path / "gt.parquet")
    with pytest.raises(
        InputError, match=r"gt\.parquet, column user_id: expected text, got Binary; cast it to String"
    ):
        ingestion.read_ground_truth(tmp_path / "gt.parquet")


def test_a_file_that_is_no_parquet_is_named(tmp_path: Path) -> None:
    (tmp_path / "gt.parquet").write_bytes(b"PAR1 and nothing more")
    with pytest.raises(InputError, match=r"gt\.parquet: cannot be read as parquet"):
        ingestion.read_ground_truth(tmp_path / "gt.parquet")


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
    summaries = ingestion.read_item_summaries(
        lines(tmp_path / "s.jsonl", {"item_id": "i1", "item_summary": "Lamp"})
    ).table
    found = {"item_id": "i1", "aspects": [{"user_id": "u", "extracted_aspects": {"usage_context": "bed"}}]}
    aspects = ingestion.read_aspects(lines(tmp_path / "a.jsonl", found), "amazon").table
    path = history(tmp_path, {"summary": None, "extracted": None})
    ingested = ingestion.read_histories(path, "amazon", item_summaries=summaries, aspects=aspects)
    assert ingested.table.select("item_summary", "usage_context").rows() == [("Lamp", "bed")]
    assert ingested.filled == {"item_summary": 1, "aspects": 1}


def test_aspects_of_held_out_reviews_are_left_out_and_counted(tmp_path: Path) -> None:
    truth = pl.DataFrame({"user_id": ["u", "other"], "item_id": ["i1", "i2"]})
    aspects = [{"user_id": user, "extracted_aspects": {"usage_context": "bed"}} for user in ("u", "v", "v")]
    path = lines(tmp_path / "a.jsonl", {"item_id": "i1", "aspects": aspects})
    ingested = ingestion.read_aspects(path, "amazon", ground_truth=truth)
    assert ingested.table["user_id"].to_list() == ["v"]
    assert (ingested.read, ingested.left_out) == (3, {"repeated": 1, "the user's ground truth": 1})


def test_padding_and_repeated_candidates_are_left_out_and_counted(tmp_path: Path) -> None:
    found = [{"item_id": item, "score": score} for item, score in [("a", 3), ("[PAD]", 0), ("a", 2), ("b", 1)]]
    ingested = ingestion.read_candidates(lines(tmp_path / "c.jsonl", {"user_id": "u", "results": found}))
    assert ingested.table.rows() == [("u", 1, "a", 3.0), ("u", 2, "b", 1.0)]
    assert (ingested.read, ingested.left_out) == (4, {"padding": 1, "repeated candidate": 1})


def test_a_second_list_of_a_user_is_joined_to_the_first_and_counted(tmp_path: Path) -> None:
    results = [[{"item_id": item, "score": 1}] for item in ("a", "b", "a")]
    own = [{"user_id": "u", "results": one} for one in results]
    path = lines(tmp_path / "c.jsonl", own[0], {"user_id": "v", "results": results[0]}, *own[1:])
    ingested = ingestion.read_candidates(path)
    assert ingested.table.rows() == [("u", 1, "a", 1.0), ("u", 2, "b", 1.0), ("v", 1, "a", 1.0)]
    assert ingested.merged == {"second list of its user": 2}


PERSONAS = pl.DataFrame({"item_id": ["i1", "i1"], "unique_persona_id": ["i1_P1", "i1_P2"]})


@pytest.mark.parametrize("persona_id", ["P2", "i1_P2"])
@pytest.mark.parametrize("grouped", [False, True])
def test_selections_are_resolved_in_every_form(tmp_path: Path, persona_id: str, grouped: bool) -> None:
    one = {"target_item_id": "i1", "selected_persona_id": persona_id}
    row = {"user_id": "u", **({"persona_selections": [one]} if grouped else one)}
    ingested = ingestion.read_selections(lines(tmp_path / "s.jsonl", row), PERSONAS)
    assert ingested.table["unique_persona_id"].to_list() == ["i1_P2"]


@pytest.mark.parametrize(
    ("given", "full", "resolved"),
    [
        ("P_1", "P_P_1", True),
        ("P_P_1", "P_P_1", True),
        ("2", "P_2", True),
        ("P_2", "P_2", True),
        ("P_3", "P_3", False),
    ],
)
def test_a_selection_is_short_or_full_by_what_its_target_has(
    tmp_path: Path, given: str, full: str, resolved: bool
) -> None:
    catalogue = pl.DataFrame({"item_id": ["P", "P"], "unique_persona_id": ["P_P_1", "P_2"]})
    row = {"user_id": "u", "target_item_id": "P", "selected_persona_id": given}
    table = ingestion.read_selections(lines(tmp_path / "s.jsonl", row), catalogue).frame
    assert table.select("unique_persona_id", "resolved").rows() == [(full, resolved)]


def test_selections_without_their_persona_are_kept_and_marked_and_those_of_the_ground_truth_left_out(
    tmp_path: Path,
) -> None:
    targets = [("i1", "P1"), ("i1", "P9"), ("i2", "P1")]
    rows = [{"user_id": "u", "target_item_id": item, "selected_persona_id": persona} for item, persona in targets]
    truth = pl.DataFrame({"user_id": ["u"], "item_id": ["i2"]})
    ingested = ingestion.read_selections(lines(tmp_path / "s.jsonl", *rows), PERSONAS, ground_truth=truth)
    assert ingested.table.select("unique_persona_id", "resolved").rows() == [("i1_P1", True), ("i1_P9", False)]
    assert ingested.left_out == {"the target is the user's ground truth": 1}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"user_id": "u", "reviews": [', r"h\.jsonl line 2: is not valid JSON"),
        ("null", r"h\.jsonl line 2: expected an object, got null"),
        ({"reviews": []}, r"h\.jsonl line 2, field user_id: is missing, got the keys reviews"),
        (
            {"user_id": "u", "reviews": [REVIEW, REVIEW | {"rating": "five"}]},
            r"h\.jsonl line 2, field reviews\[1\]\.rating: expected a number, got 'five'",
        ),
        (
            {"user_id": "u", "reviews": [REVIEW | {"rating": 7}]},
            r"reviews\[0\]\.rating: expected a number <= 5.0, got 7",
        ),
        (
            {"user_id": "u", "reviews": [REVIEW | {"timestamp": "soon"}]},
            r"line 2, field reviews\[0\]\.timestamp: expected epoch .* got 'soon'",
        ),
        ({"user_id": "u", "reviews": [REVIEW | {"asin": "i9"}]}, r"reviews\[0\]\.item_id: expected one id, got"),
        (
            {"user_id": "u", "reviews": [REVIEW | {"user_id": "v"}]},
            r"reviews\[0\]\.user_id: expected the user of",
        ),
        ({"user_id": "u", "reviews": [REVIEW | {"item_id": None}]}, r"reviews\[0\]\.item_id: is missing"),
        (
            {"user_id": "u", "reviews": [REVIEW | {"extracted": "{"}]},
            r"reviews\[0\]\.extracted: is not valid JSON: .*, got '\{'; expected an object or its JSON text",
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


def test_two_forms_at_once_stop(tmp_path: Path) -> None:
    one = {"target_item_id": "i1", "selected_persona_id": "P1"}
    path = lines(tmp_path / "s.jsonl", {"user_id": "u", **one, "persona_selections": [one]})
    with pytest.raises(InputError, match=r"field target_item_id: expected a single selection or .*, got both"):
        ingestion.read_selections(path, PERSONAS)
    review = {"user_id": "u", "extracted_aspects": {}}
    path = lines(tmp_path / "a.jsonl", {"item_id": "i1", "aspects": [review], "review": review})
    with pytest.raises(InputError, match=r"field aspects: expected one form, got aspects and review"):
        ingestion.read_aspects(path, "amazon")


def test_aspects_given_as_text_may_not_repeat_a_key(tmp_path: Path) -> None:
    path = history(tmp_path, {"extracted": '{"usage_context": "bed", "usage_context": "desk"}'})
    with pytest.raises(InputError, match=r"reviews\[0\]\.extracted: .* key 'usage_context' is given twice"):
        ingestion.read_histories(path, "amazon")


@pytest.mark.parametrize(
    "row",
    [
        {"item_id": "i", "aspects": [{"user_id": "u", "extracted_aspects": {"usage_context": "bed"}}]},
        {"item_id": "i", "reviews": [{"user_id": "u", "extracted_aspects": '{"usage_context": "bed"}'}]},
        {"item_id": "i", "review": {"user_id": "u", "extracted_aspects": {"usage_context": "bed"}}},
        {"item_id": "i", "user_id": "u", "extracted_aspects": {"usage_context": "bed"}},
    ],
    ids=["aspects", "reviews", "review", "flat"],
)
def test_aspects_come_in_four_forms(tmp_path: Path, row: Any) -> None:
    table = ingestion.read_aspects(lines(tmp_path / "a.jsonl", row), "amazon").table
    assert table.select("user_id", "item_id", "usage_context").rows() == [("u", "i", "bed")]


def test_a_file_that_is_not_there_or_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.jsonl: expected .*, got no such file"):
        ingestion.read_ground_truth(tmp_path / "gone.jsonl")
    with pytest.raises(InputError, match="got an empty folder"):
        ingestion.read_ground_truth(tmp_path)
    with pytest.raises(InputError, match=r"got \.csv ending"):
        ingestion.read_ground_truth(lines(tmp_path / "gt.csv"))


def test_a_truncated_gzip_is_named(tmp_path: Path) -> None:
    path = lines(tmp_path / "gt.jsonl.gz", *({"user_id": f"u{n}", "item_id": "i"} for n in range(100)))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"gt\.jsonl\.gz: cannot be read"):
        ingestion.read_ground_truth(path)


GOOD = b'{"user_id": "u", "item_id": "i"}\n'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (GOOD + b"\x00\n", r"line 2: is not valid JSON: invalid character"),
        (b"\xef\xbb\xbf" + GOOD, r"line 1: begins with a byte order mark; save"),
        (GOOD + b'{"user_id": "\xff", "item_id": "i"}\n', r"line 2: is not valid JSON: 'utf-8' codec"),
        (GOOD + b'{"user_id": "u", "item_id": "i", "x": "\xff"}\n', r"line 2: is not valid JSON: 'utf-8' codec"),
        (GOOD + b'{"user_id": NaN, "item_id": "i"}\n', r"line 2, field user_id: expected a finite number, got NaN"),
        (GOOD + b'{"user_id": "u", "item_id": "i", "x": ' + b"[" * 10_000 + b"\n", r"line 2: is nested too deep"),
        (GOOD + b"[" * 10_000 + b"]" * 10_000 + b"\n", r"line 2: expected an object, got '"),
        (b'{"user_id": "u", "item_id": "i", "user_id": "v"}\n', r"line 1: .* key 'user_id' is given twice"),
        (
            GOOD + b'{"user_id": "\\ud800", "item_id": "i"}\n',
            r"line 2, field user_id: expected characters, got half of a surrogate pair",
        ),
        (GOOD.strip() + GOOD, r"line 1: is not valid JSON: .*trailing characters"),
    ],
    ids=["nul", "bom", "utf-8", "unread utf-8", "nan", "deep", "deep array", "twice", "surrogate", "two objects"],
)
def test_hostile_bytes_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "gt.jsonl").write_bytes(content)
    with pytest.raises(InputError, match=message):
        ingestion.read_ground_truth(tmp_path / "gt.jsonl")


FULL = {"user_id": "u", "review_title": "t", **REVIEW, "extracted": {"usage_context": 'a ": b', "x": None}}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"rating": 5.0', '"rating": 5.0, "rating": 4.0'),
        ('"rating": 5.0', '"rating" : 4.0, "rating": 5.0'),
        ('"rating": 5.0', '"r\\u0061ting": 4.0, "rating": 5.0'),
        ('"review_title": "t", "item_id"', '"item_id": "i2", "item_id"'),
        ('"summary": "A lamp"', '"summary": null, "summary": "A lamp"'),
        ('"x": null', '"x": null, "x": "y"'),
        ('"user_id": "u", "reviews"', '"user_id": "v", "user_id": "u", "reviews"'),
    ],
    ids=["twice", "space", "escaped", "for one left out", "null first", "aspect", "outer"],
)
def test_a_key_given_twice_is_found_however_it_is_hidden(tmp_path: Path, old: str, new: str) -> None:
    text = json.dumps({"user_id": "u", "reviews": [FULL, FULL]})
    assert ingestion.read_histories(lines(tmp_path / "h.jsonl", text), "amazon").table.height == 2
    assert old in text
    with pytest.raises(InputError, match=r"line 1: is not valid JSON: key .* is given twice in one object"):
        ingestion.read_histories(lines(tmp_path / "h.jsonl", text.replace(old, new, 1)), "amazon")


@pytest.mark.parametrize("rating", ["1e400", "NaN", "-Infinity"])
def test_ratings_that_are_no_finite_number_are_named(tmp_path: Path, rating: str) -> None:
    text = json.dumps({"user_id": "u", "reviews": [REVIEW]}).replace('"rating": 5.0', f'"rating": {rating}')
    with pytest.raises(InputError, match=r"h\.jsonl line 1"):
        ingestion.read_histories(lines(tmp_path / "h.jsonl", text), "amazon")


@pytest.mark.parametrize("timestamp", [10**30, 1e300, -(10**30)])
def test_times_beyond_64_bits_are_named(tmp_path: Path, timestamp: Any) -> None:
    with pytest.raises(InputError, match=r"reviews\[0\]\.timestamp: expected a time before the year 2500"):
        ingestion.read_histories(history(tmp_path, {"timestamp": timestamp}), "amazon")


def test_nan_in_parquet_is_named(tmp_path: Path) -> None:
    row = {"user_id": "u", "reviews": [REVIEW | {"extracted": None, "rating": float("nan")}]}
    pl.DataFrame([row]).write_parquet(tmp_path / "h.parquet")
    with pytest.raises(InputError, match=r"h\.parquet line 1, field reviews\[0\]\.rating"):
        ingestion.read_histories(tmp_path / "h.parquet", "amazon")


def test_carriage_returns_and_blank_lines_are_white_space(tmp_path: Path) -> None:
    (tmp_path / "gt.jsonl").write_bytes(GOOD.replace(b"\n", b"\r\n") + b"\r\n\n" + GOOD.replace(b'"u"', b'"v"'))
    assert ingestion.read_ground_truth(tmp_path / "gt.jsonl").table["user_id"].to_list() == ["u", "v"]


@pytest.mark.parametrize("name", ["gt.jsonl", "gt.jsonl.gz"])
@pytest.mark.parametrize("on_bad_row", ["fail", "quarantine"])
@pytest.mark.parametrize("content", [[], ["", "  "]])
def test_an_empty_file_is_refused(tmp_path: Path, name: str, on_bad_row: Any, content: list[str]) -> None:
    with pytest.raises(InputError, match="expected at least one line, got an empty file"):
        ingestion.read_ground_truth(lines(tmp_path / name, *content), ReadRules(on_bad_row=on_bad_row))


def test_a_line_over_the_limit_stops_before_it_is_in_memory(tmp_path: Path) -> None:
    with (tmp_path / "gt.jsonl").open("wb") as file:
        file.write(GOOD)
        file.truncate(3 << 30)  # a sparse file: its second line is 3 GiB of zeros
    rules = ReadRules(on_bad_row="quarantine", max_line_bytes=1 << 20)
    with pytest.raises(InputError, match=r"gt\.jsonl line 2: is longer than max_line_mb 1; split it or raise"):
        ingestion.read_ground_truth(tmp_path / "gt.jsonl", rules)


def test_an_exploding_gzip_stops(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "gt.jsonl.gz", "wb") as file:
        for _ in range(80):
            file.write(b" " * (1 << 20) + b"\n")
    with pytest.raises(InputError, match=r"unpacks to more than max_gzip_ratio 200 times its size"):
        ingestion.read_ground_truth(tmp_path / "gt.jsonl.gz")


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gt.jsonl")
    with pytest.raises(InputError, match="got not a regular file"):
        ingestion.read_ground_truth(tmp_path / "gt.jsonl")


def test_a_file_that_changes_while_it_is_read_stops(tmp_path: Path) -> None:
    path = tmp_path / "gt.jsonl"
    path.write_bytes(GOOD)
    rows = read_tables(path, columns.GROUND_TRUTH, Account(path, ReadRules()))
    next(rows)
    path.write_bytes(GOOD * 2)
    with pytest.raises(InputError, match="changed while it was read"):
        list(rows)


def mixed(tmp_path: Path, num_bad: int, num_good: int) -> Path:
    rows = [{"user_id": f"u{n}", "item_id": "i"} for n in range(num_good)]
    return lines(tmp_path / "gt.jsonl", *[f'{{"bad": {n}}}' for n in range(num_bad)], *rows)


def test_fail_reads_on_and_names_the_total_and_the_first_twenty_places(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        ingestion.read_ground_truth(mixed(tmp_path, num_bad=30, num_good=5))
    first, *places = str(error.value).splitlines()
    assert "gt.jsonl: 30 bad lines of 35; fix the line or set on_bad_row: quarantine" in first
    assert len(places) == 20
    assert "gt.jsonl line 20, field user_id: is missing, got the keys bad" in places[-1]


def test_the_same_mistake_in_every_line_is_said_once(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        ingestion.read_ground_truth(mixed(tmp_path, num_bad=30, num_good=0))
    path = tmp_path / "gt.jsonl"
    assert str(error.value) == (
        f"{path}: every line, field user_id: is missing, got the keys bad in line 1; is it the right file?"
    )


def test_quarantine_sets_bad_lines_aside_and_counts_them(tmp_path: Path) -> None:
    rules = ReadRules(on_bad_row="quarantine", max_bad_share=0.3)
    ingested = ingestion.read_ground_truth(mixed(tmp_path, num_bad=2, num_good=8), rules)
    assert (ingested.read, ingested.table.height, len(ingested.bad_lines)) == (10, 8, 2)
    target = tmp_path / "out" / "quarantine" / "ground_truth.jsonl"
    write_quarantine(ingested.bad_lines, target)
    written = [json.loads(line) for line in target.read_text().splitlines()]
    assert [(row["line"], row["content"]) for row in written] == [(1, '{"bad": 0}'), (2, '{"bad": 1}')]
    assert written[0]["reason"] == "field user_id: is missing, got the keys bad"
    write_quarantine([], target)
    assert not target.exists()


def test_too_many_bad_lines_stop_a_quarantine(tmp_path: Path) -> None:
    rules = ReadRules(on_bad_row="quarantine", max_bad_share=0.1)
    with pytest.raises(InputError, match=r"2 bad lines of 10; more than max_bad_share 0\.1 of 10 lines"):
        ingestion.read_ground_truth(mixed(tmp_path, num_bad=2, num_good=8), rules)


def test_a_bad_review_sets_its_whole_line_aside(tmp_path: Path) -> None:
    bad = {"user_id": "bad", "reviews": [REVIEW, REVIEW | {"item_id": None}]}
    path = lines(tmp_path / "h.jsonl", bad, {"user_id": "good", "reviews": [REVIEW]})
    rules = ReadRules(on_bad_row="quarantine", max_bad_share=0.5)
    ingested = ingestion.read_histories(path, "amazon", rules)
    assert ingested.table["user_id"].to_list() == ["good"]
    assert json.loads(ingested.bad_lines[0].content) == bad
