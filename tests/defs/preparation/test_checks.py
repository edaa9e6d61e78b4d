from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from personarank_dagster.core import schemas
from personarank_dagster.defs.preparation import findings
from personarank_dagster.defs.preparation.checks import (
    no_request_holds_held_out_text,
    no_source_is_held_out,
    rows_have_answers,
)
from personarank_dagster.defs.preparation.questions import SOURCES
from tests.preparation.datasets import CONFIG, ITEMS, prepared, reviews

PREPARED = prepared(reviews())[0]
TABLES = {
    "split": PREPARED.split.table,
    "items": ITEMS,
    "item_summaries": PREPARED.summaries,
    "review_aspects": PREPARED.aspects,
    "item_personas": PREPARED.personas,
    "persona_selections": PREPARED.selections,
}


@dataclass(frozen=True)
class Tables:
    """What a check looks at, without a Dagster instance."""

    tables: dict[str, pl.DataFrame]
    details: dict[str, int]

    @property
    def config(self) -> Any:
        data = SimpleNamespace(schema="amazon", min_coverage=0.8)
        return SimpleNamespace(prepare=CONFIG, data=data)

    def table(self, asset: str) -> pl.LazyFrame:
        return self.tables[asset].lazy()

    def version(self, asset: str) -> Any:
        return SimpleNamespace(manifest=SimpleNamespace(details=self.details))


def leaking() -> pl.DataFrame:
    """A split that has held-out reviews among those that are trained on, too."""
    held_out = TABLES["split"].filter(pl.col("part") == "held out")
    both = held_out.with_columns(part=pl.lit("training"), role=None)
    return pl.concat([TABLES["split"], both])


@pytest.mark.parametrize("stage", SOURCES)
@pytest.mark.parametrize("check", [no_source_is_held_out, no_request_holds_held_out_text])
def test_requests_hold_nothing_that_is_held_out(stage: str, check: Any) -> None:
    found = check(Tables(TABLES, {}), stage=stage)
    assert found.passed
    assert found.numbers["requests"] > 0


def test_a_split_that_leaks_is_seen_in_its_pairs_its_sources_and_its_texts() -> None:
    published = Tables(TABLES | {"split": leaking()}, {})
    assert findings.apart(leaking()) == findings.Found(False, {"in_both_parts": 4, "total": 20})
    assert no_source_is_held_out(published, stage="review_aspects").numbers["requests_with_held_out_sources"] == 4
    found = no_request_holds_held_out_text(published, stage="item_summaries")
    assert (found.passed, found.numbers["requests_with_held_out_text"]) == (False, 4)


def test_rows_without_an_answer_are_counted() -> None:
    assert rows_have_answers(Tables(TABLES, {"questions": 20, "set_aside": 0}), stage="item_personas").passed
    found = rows_have_answers(Tables(TABLES, {"questions": 20, "set_aside": 1}), stage="item_personas")
    assert (found.passed, found.numbers["share"]) == (False, 0.05)


def personas(*descriptions: str, rationale: str = "bright strings") -> pl.DataFrame:
    rows = [
        {"item_id": "a", "persona_id": f"P{place}", "description": text, "preference_rationale": rationale}
        for place, text in enumerate(descriptions, 1)
    ]
    return pl.DataFrame(rows, schema=schemas.ITEM_PERSONAS)


def test_personas_in_nearly_the_same_words_are_seen() -> None:
    alike = personas("plays bright guitar strings", "Plays bright guitar strings!", "travels with children often")
    assert findings.different(alike) == findings.Found(False, {"near_duplicates": 1, "pairs": 3})
    assert findings.different(personas("plays guitar", "travels with children")).passed


def test_a_rationale_is_grounded_where_it_has_words_of_its_own_item() -> None:
    aspects = pl.DataFrame(
        {"review_id": ["1", "2"], "usage_context": ["bright strings", "warm amplifier"]},
        schema=dict.fromkeys(("review_id", "usage_context"), pl.String()),
    )
    split = pl.DataFrame({"review_id": ["1", "2"], "item_id": ["a", "b"]})
    assert findings.grounded(personas("x"), aspects, split).numbers == {
        "own_item": 1.0,
        "another_item": 0.0,
        "rationales": 1,
    }
    assert not findings.grounded(personas("x", rationale="warm amplifier"), aspects, split).passed


@pytest.mark.parametrize(("first", "passed"), [(5, True), (10, True), (20, False), (0, False)])
def test_a_choice_that_follows_the_order_is_seen(first: int, passed: bool) -> None:
    offered = ["P1"] * first + ["P2"] * (20 - first)
    selections = pl.DataFrame({"offered_as": offered, "offered": [2] * 20})
    assert findings.unbiased(selections).passed is passed


def test_negative_reviews_that_no_persona_rests_on_are_seen() -> None:
    rows = [("1", 1.0, "training"), ("2", 5.0, "training")]
    split = pl.DataFrame(rows, schema=["review_id", "rating", "part"], orient="row")
    kind = pl.List(pl.String())
    resting_on = [pl.DataFrame({"review_ids": [[one]]}, schema={"review_ids": kind}) for one in "12"]
    assert [findings.negative_covered(one, split).passed for one in resting_on] == [True, False]
