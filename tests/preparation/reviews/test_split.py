from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personarank_dagster.core import schemas
from personarank_dagster.preparation.questions import Question
from personarank_dagster.preparation.reviews.contacts import without_contacts
from personarank_dagster.preparation.reviews.evidence import as_data, num_held_out
from personarank_dagster.preparation.reviews.split import Split, split_reviews

START = datetime(2020, 1, 1, tzinfo=UTC)
LONG = "the very same long words that somebody copied into another review"


def reviews(*rows: tuple[str, str, float, int] | tuple[str, str, float, int, str]) -> pl.DataFrame:
    columns = [
        (f"r{i}", user, item, rating, START + timedelta(days=day), None, rest[0] if rest else f"text {i}")
        for i, (user, item, rating, day, *rest) in enumerate(rows)
    ]
    return pl.DataFrame(columns, schema=schemas.REVIEWS, orient="row").sort("user_id", "timestamp")


def ids(split: Split) -> tuple[list[str], list[str]]:
    return split.training.table["review_id"].to_list(), split.held_out.table["review_id"].to_list()


def test_the_last_liked_item_is_held_out_and_the_one_before_is_the_target() -> None:
    split = split_reviews(reviews(("u", "a", 5, 1), ("u", "b", 4, 2), ("u", "c", 5, 3)), min_rating=4)
    assert ids(split) == (["r0", "r1"], ["r2"])
    assert split.ground_truth.rows() == [("u", "c")]
    assert split.targets.rows() == [("u", "b")]


def test_what_was_written_later_than_the_held_out_review_is_left_out() -> None:
    split = split_reviews(reviews(("u", "a", 5, 1), ("u", "b", 5, 2), ("u", "c", 1, 3)), min_rating=4)
    assert ids(split) == (["r0"], ["r1"])
    assert split.left_out == {"later than the held out": 1}


def test_every_review_of_the_held_out_item_by_its_user_is_held_out() -> None:
    rows = ("u", "a", 5, 1), ("u", "b", 2, 2), ("u", "b", 5, 3), ("v", "b", 5, 1)
    assert ids(split_reviews(reviews(*rows), min_rating=4)) == (["r0", "r3"], ["r1", "r2"])


def test_nothing_of_a_user_who_liked_one_item_is_held_out() -> None:
    split = split_reviews(reviews(("u", "a", 1, 1), ("u", "b", 5, 2)), min_rating=4)
    assert ids(split) == (["r0", "r1"], [])
    assert split.targets.rows() == [("u", "b")]


def test_a_moment_holds_out_everything_after_it() -> None:
    rows = ("u", "a", 5, 1), ("u", "b", 5, 5), ("u", "c", 1, 6), ("v", "a", 5, 7)
    split = split_reviews(reviews(*rows), min_rating=4, as_of=START + timedelta(days=3))
    assert ids(split) == (["r0"], ["r1", "r2", "r3"])
    assert split.ground_truth.rows() == [("u", "b")]


def test_a_copy_of_a_held_out_text_stays_without_its_text() -> None:
    rows = ("u", "a", 5, 1), ("u", "b", 5, 2, LONG), ("v", "b", 5, 1, LONG)
    split = split_reviews(reviews(*rows), min_rating=4)
    assert split.training.table.select("review_id", "text").rows() == [("r0", "text 0"), ("r2", None)]
    assert split.blanked == 1


@pytest.mark.parametrize("end", ["call +49 151 2345 6789 now", "see https://other.example/of/another"])
def test_a_copy_that_differs_in_its_contacts_alone_is_a_copy(end: str) -> None:
    held = f"{LONG}, call +49 30 1234 5678 now" if "call" in end else f"{LONG}, see https://one.example/page"
    rows = ("u", "a", 5, 1), ("u", "b", 5, 2, held), ("v", "b", 2, 1, f"{LONG}, {end}")
    split = split_reviews(reviews(*rows), min_rating=4)
    assert split.blanked == 1
    sent = [as_data(without_contacts(text)) for text in (held, *split.training.table["text"].drop_nulls())]
    questions = [Question(stage="s", row="b", system="", user=user, answer_schema={}, check=str) for user in sent]
    assert num_held_out(questions[:1], split.held_out, mask=True) == 1
    assert num_held_out(questions[1:], split.held_out, mask=True) == 0


def test_a_held_out_text_that_is_little_but_a_link_is_in_no_other() -> None:
    link = "https://example.org/a/very/long/address/of/some/page/or/other"
    split = split_reviews(reviews(("u", "a", 5, 1, "see www.example.org"), ("u", "b", 5, 2, link)), min_rating=4)
    assert (split.blanked, split.held_out.fingerprints(mask=True)) == (0, [])


def test_the_k_core_is_taken_until_nothing_falls_out() -> None:
    rows = ("u", "a", 5, 1), ("u", "b", 5, 2), ("v", "a", 5, 1), ("v", "b", 5, 2), ("w", "b", 5, 1)
    split = split_reviews(reviews(*rows), min_rating=4, k_core=2)
    assert split.left_out["outside the k-core"] == 1


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("uvw"), st.sampled_from("abcd"), st.integers(1, 5), st.integers(0, 9))),
    st.booleans(),
)
def test_every_review_is_in_one_part_and_no_held_out_pair_in_training(
    rows: list[tuple[str, str, int, int]], at_a_moment: bool
) -> None:
    table = reviews(*rows)
    split = split_reviews(table, min_rating=4, as_of=START + timedelta(days=5) if at_a_moment else None)
    training, held_out = split.training.table, split.held_out.table
    assert training.height + held_out.height + sum(split.left_out.values()) == table.height
    assert training.join(split.ground_truth, on=["user_id", "item_id"], how="semi").is_empty()
    last = training.group_by("user_id").agg(last=pl.col("timestamp").max())
    held = held_out.group_by("user_id").agg(first=pl.col("timestamp").min()).join(last, on="user_id")
    assert held.filter(pl.col("last") > pl.col("first")).is_empty()
