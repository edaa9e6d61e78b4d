"""One passing and one failing table per check."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

from personarank_dagster.core.aspects import aspect_columns
from personarank_dagster.core.data_checks import DataCheck, data_checks
from personarank_dagster.core.texts import TextTemplate
from personarank_dagster.core.validation import PREVIOUS, Finding, Limits, persona_texts_fit_max_len

# Texts of the good tables have up to 34 words.
LIMITS = Limits(
    min_coverage=0.5,
    max_drift=0.5,
    max_len=34,
    template=TextTemplate("amazon"),
    count_tokens=lambda texts: [len(text.split()) for text in texts],
)
CHECKS = {check.name: check for check in data_checks(LIMITS)}
NOON = datetime(2020, 1, 1, 12, tzinfo=UTC)
GOOD: dict[str, list[dict[str, Any]]] = {
    "personas": [
        {
            "item_id": item,
            "persona_id": "P1",
            "unique_persona_id": f"{item}_P1",
            "name": "Owl",
            "description": "reads",
            "preference_rationale": "light",
            "item_summary": "a lamp",
        }
        for item in ("a", "b")
    ],
    "histories": [
        {
            "user_id": "u",
            "position": i,
            "item_id": "a",
            "rating": 4.0,
            "timestamp": NOON.replace(hour=12 + i),
            "item_summary": "a lamp",
            **dict.fromkeys(aspect_columns("amazon"), "bed"),
        }
        for i in range(3)
    ],
    "selected_personas": [
        {
            "user_id": "u",
            "target_item_id": "a",
            "unique_persona_id": "a_P1",
            "selected_persona_name": "Owl",
            "selection_reasoning": "It fits.  **Selection:** 1. a_P1",
            "resolved": True,
        }
    ],
    "candidates": [
        {"user_id": "u", "candidate_rank": i + 1, "item_id": "b", "candidate_score": 2.0 - i} for i in range(3)
    ],
    "ground_truth": [{"user_id": "u", "item_id": "b"}],
}
# What makes each check fail: the table, the row, and the values that break the rule.
BREAKING: dict[str, tuple[str, int, dict[str, Any]]] = {
    "ids_of_personas_are_non_empty": ("personas", 0, {"item_id": " "}),
    "ids_of_histories_are_non_empty": ("histories", 0, {"user_id": ""}),
    "ids_of_selected_personas_are_non_empty": ("selected_personas", 0, {"target_item_id": "a "}),
    "ids_of_candidates_are_non_empty": ("candidates", 0, {"item_id": None}),
    "ids_of_ground_truth_are_non_empty": ("ground_truth", 0, {"item_id": ""}),
    "ratings_lie_within_1_and_5": ("histories", 0, {"rating": 0.5}),
    "timestamps_are_plausible": ("histories", 0, {"timestamp": datetime(1970, 1, 2, tzinfo=UTC)}),
    "histories_are_chronological": ("histories", 0, {"timestamp": NOON.replace(hour=20)}),
    "interactions_do_not_repeat": ("histories", 0, {"timestamp": NOON.replace(hour=13)}),
    "interaction_texts_fit_max_len": ("histories", 0, {"item_summary": "a very long summary"}),
    "persona_texts_fit_max_len": ("personas", 0, {"description": "reads " * 30}),
    "persona_texts_are_non_empty": ("personas", 0, {"description": " "}),
    "persona_ids_are_item_and_id": ("personas", 0, {"unique_persona_id": "b_P1"}),
    "selections_resolve_to_a_persona": ("selected_personas", 0, {"resolved": False}),
    "selected_names_equal_the_catalogue": ("selected_personas", 0, {"selected_persona_name": "Lark"}),
    "reasoning_agrees_with_the_selection": ("selected_personas", 0, {"selection_reasoning": "Selection: 2. a_P2"}),
    "selected_users_have_histories": ("selected_personas", 0, {"user_id": "x"}),
    "candidate_lists_are_sorted": ("candidates", 0, {"candidate_score": 0.5}),
    "candidate_scores_have_no_outlier": ("candidates", 2, {"candidate_score": -1e9}),
    "candidates_are_new_to_their_user": ("candidates", 0, {"item_id": "a"}),
}


def tables(changed: tuple[str, int, dict[str, Any]] | None = None) -> dict[str, pl.LazyFrame]:
    found = {name: pl.DataFrame(rows) for name, rows in GOOD.items()}
    if changed:
        name, number, values = changed
        rows = [row | values if i == number else row for i, row in enumerate(GOOD[name])]
        found[name] = pl.DataFrame(rows, schema=found[name].schema)
    return {name: table.lazy() for name, table in found.items()}


def finding(check: DataCheck, **options: Any) -> Finding:
    found = tables(**options)
    return check.finding(found | {PREVIOUS: found[check.asset]}, {check.of: 4})


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS.keys())
def test_every_check_passes_on_good_tables_and_says_what_it_means(check: DataCheck) -> None:
    assert check.passed(finding(check))
    assert len(check.description) > 20


@pytest.mark.parametrize("name", BREAKING)
def test_a_broken_rule_is_found_and_counted(name: str) -> None:
    found = finding(CHECKS[name], changed=BREAKING[name])
    assert not CHECKS[name].passed(found)
    assert found.bad == 1


def test_a_schema_without_its_aspects_is_found() -> None:
    check = CHECKS["interactions_have_aspects"]
    bare = pl.LazyFrame({"user_id": ["u"] * 4, "usage_context": ["bed", None, None, None]})
    found = check.finding({"histories": bare}, {})
    assert (found.bad, found.total, check.passed(found)) == (3, 4, False)


def test_two_selections_of_a_user_for_one_target_are_found() -> None:
    check = CHECKS["selections_do_not_repeat"]
    twice = pl.LazyFrame({"user_id": ["u", "u", "v"], "target_item_id": ["a", "a", "a"]})
    found = check.finding({"selected_personas": twice}, {})
    assert (found.bad, found.total, check.passed(found)) == (1, 3, False)


def test_texts_are_not_judged_without_the_tokenizer() -> None:
    limits = replace(LIMITS, count_tokens=None)
    found = persona_texts_fit_max_len(tables()["personas"], limits)
    assert (found.bad, found.note) == (None, "the tokenizer is not on this machine")


def test_more_than_seven_personas_of_an_item_are_found() -> None:
    many = {"personas": pl.LazyFrame({"item_id": ["a"] * 8 + ["b"]})}
    check = CHECKS["items_have_one_to_seven_personas"]
    assert not check.passed(check.finding(many, {}))


@pytest.mark.parametrize("check", [check for check in CHECKS.values() if check.counted], ids=lambda check: check.name)
def test_rows_that_ingestion_left_out_fail_their_check(check: DataCheck) -> None:
    found = check.finding({}, {check.of: 4, check.counted: 1})
    assert (found.bad, found.total, found.note, check.passed(found)) == (1, 4, check.remedy, False)


def test_aspects_that_were_not_read_are_not_judged() -> None:
    check = CHECKS["aspects_hold_no_ground_truth"]
    found = check.finding({}, {"rows_read": 4})
    assert (found.bad, found.note, check.passed(found)) == (None, "no aspects read", True)


@pytest.mark.parametrize(
    ("name", "column"), [("candidates_have_personas", "item_id"), ("candidate_users_have_histories", "user_id")]
)
def test_coverage_may_miss_what_is_configured_and_no_more(name: str, column: str) -> None:
    check = CHECKS[name]
    known = GOOD["candidates"][0][column]
    for unknown, passes in (([], True), (["x"], True), (["x", "y"], False)):
        candidates = pl.LazyFrame({column: [known, *unknown]})
        found = check.finding(tables() | {"candidates": candidates}, {})
        assert (found.bad, found.total, check.passed(found)) == (len(unknown), 1 + len(unknown), passes)


@pytest.mark.parametrize(("rows", "passes"), [(10, True), (15, True), (16, False), (5, True), (4, False), (0, False)])
def test_a_change_of_rows_beyond_the_configured_share_is_drift(rows: int, passes: bool) -> None:
    check = CHECKS["rows_of_candidates_are_like_the_previous_version"]
    now, before = (pl.LazyFrame({"item_id": ["a"] * count}) for count in (rows, 10))
    assert check.passed(check.finding({"candidates": now, PREVIOUS: before}, {})) == passes


def test_a_change_of_the_mean_rating_is_drift() -> None:
    check = CHECKS["mean_rating_is_like_the_previous_version"]
    before = pl.LazyFrame({"rating": [4.0, 4.0]})
    for rating, passes in ((4.2, True), (3.5, False)):
        found = check.finding({"histories": pl.LazyFrame({"rating": [rating]}), PREVIOUS: before}, {})
        assert check.passed(found) == passes
        assert found.numbers == {"mean_rating": rating, "previous_mean_rating": 4.0}


def test_the_mean_of_the_largest_doubles_is_no_infinity() -> None:
    check = CHECKS["ratings_lie_within_1_and_5"]
    found = check.finding({"histories": pl.LazyFrame({"rating": [1.7e308, 1.7e308, 4.1]})}, {})
    assert found.bad == 2
    assert found.numbers == {"mean_rating": pytest.approx(1.7e308 / 3 * 2)}


def scored(*lists: list[float]) -> pl.LazyFrame:
    return pl.LazyFrame(
        [{"user_id": f"u{n}", "candidate_score": s} for n, scores in enumerate(lists) for s in scores]
    )


@pytest.mark.parametrize(
    ("scores", "gap"),
    [
        ([0.9, 0.8, -1e9], (-1e9, 0.8)),
        ([0.9, 0.8, -1e9, -1e9], (-1e9, 0.8)),
        ([0.9, -999999999.5, -1e9], (-999999999.5, 0.9)),
        ([0.9, -1e9, -3.4e38], (-3.4e38, -1e9)),
        ([0.9999, 1e-5, 1e-6], (1e-5, 0.9999)),
        ([1.7e308, 1.69e308, -1e-9, -1e-8], None),
        ([1.7e308, 1.6e308, -1.7e308], None),
        ([0.9, 0.9, -1e9], None),
        ([100.0, 0.2, 0.0], None),
        ([0.5], None),
    ],
)
def test_a_list_whose_min_and_max_one_gap_decides_is_found(scores: list[float], gap: tuple[float, float]) -> None:
    check = CHECKS["candidate_scores_have_no_outlier"]
    found = check.finding({"candidates": scored([3.0, 2.0, 1.0], scores)}, {})
    assert (found.bad, found.total, check.passed(found)) == ((0, 2, True) if gap is None else (1, 2, False))
    assert found.numbers == ({} if gap is None else {"first_list": 2, "gap_from": gap[0], "gap_to": gap[1]})
    assert ("leave masked items out" in found.note) == (gap is not None)


def test_the_ceiling_is_a_number_and_never_fails() -> None:
    check = CHECKS["ground_truth_has_a_ceiling"]
    found = check.finding(tables(("ground_truth", 0, {"item_id": "z"})), {})
    assert check.passed(found)
    assert found.numbers == {"users_with_ground_truth_in_list": 0, "ceiling": 0.0}
