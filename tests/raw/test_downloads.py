from pathlib import Path
from typing import Any

import pytest

from personarank_dagster.core.errors import InputError
from personarank_dagster.raw.bad_lines import ReadRules
from personarank_dagster.raw.downloads import read_downloaded_items, read_downloaded_reviews
from tests.raw.files import lines

AMAZON_2014 = {
    "reviewerID": "u",
    "asin": "i",
    "overall": 5.0,
    "unixReviewTime": 1_600_000_000,
    "reviewTime": "09 13, 2020",
    "summary": "Good",
    "reviewText": "A fine guitar.",
}
AMAZON_2023 = {
    "user_id": "u",
    "asin": "variant",
    "parent_asin": "i",
    "rating": 5.0,
    "timestamp": 1_600_000_000_000,
    "title": "Good",
    "text": "A fine guitar.",
    "images": [{"small": "x"}],
    "verified_purchase": True,
}
YELP = {
    "review_id": "r1",
    "user_id": "u",
    "business_id": "i",
    "stars": 5.0,
    "date": "2020-09-13 12:26:40",
    "text": "A fine guitar.",
    "useful": 1,
}
REAL = Path(__file__).parents[3] / "shared" / "raw"


@pytest.mark.parametrize(("line", "title"), [(AMAZON_2014, "Good"), (AMAZON_2023, "Good"), (YELP, None)])
def test_every_public_form_of_a_review_is_one_table(tmp_path: Path, line: dict[str, Any], title: str | None) -> None:
    row = read_downloaded_reviews(lines(tmp_path / "reviews.jsonl", line)).frame.row(0, named=True)
    assert (row["user_id"], row["item_id"], row["rating"]) == ("u", "i", 5.0)
    assert (row["title"], row["text"]) == (title, "A fine guitar.")
    assert row["timestamp"].isoformat() == "2020-09-13T12:26:40+00:00"


def test_a_review_without_text_is_kept(tmp_path: Path) -> None:
    path = lines(tmp_path / "reviews.jsonl", {**AMAZON_2014, "reviewText": " ", "summary": None})
    assert read_downloaded_reviews(path).frame.select("title", "text").row(0) == (None, None)


def test_equal_reviews_without_an_id_are_one(tmp_path: Path) -> None:
    read = read_downloaded_reviews(
        lines(tmp_path / "reviews.jsonl", AMAZON_2014, AMAZON_2014, {**AMAZON_2014, "asin": "j"})
    )
    assert (read.frame.height, read.left_out) == (2, {"repeated": 1})


def test_reviews_are_ordered_by_user_and_time(tmp_path: Path) -> None:
    later, earlier = {**YELP, "review_id": "a"}, {**YELP, "review_id": "b", "date": "2019-01-01 00:00:00"}
    table = read_downloaded_reviews(lines(tmp_path / "reviews.jsonl", later, earlier)).frame
    assert table["review_id"].to_list() == ["b", "a"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"user_id": None}, "user_id: is missing; expected one of user_id, reviewerID"),
        ({"business_id": None}, "business_id: is missing; expected one of business_id"),
        ({"stars": 9}, "stars"),
        ({"rating": 1}, "expected one of rating, overall, stars"),
        ({"date": "yesterday"}, "timestamp"),
    ],
)
def test_a_review_that_breaks_a_rule_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = lines(tmp_path / "reviews.jsonl", YELP, {**YELP, **change})
    with pytest.raises(InputError, match=f"line 2.*{message}"):
        read_downloaded_reviews(path)


def test_a_bad_review_can_be_set_aside(tmp_path: Path) -> None:
    path = lines(tmp_path / "reviews.jsonl", YELP, {**YELP, "stars": "many"})
    read = read_downloaded_reviews(path, ReadRules("quarantine", max_bad_share=0.5))
    assert (read.frame.height, len(read.bad_lines)) == (1, 1)


def test_an_item_is_described_by_what_its_source_says(tmp_path: Path) -> None:
    attributes = {"WiFi": "u'free'", "HasTV": "False", "Caters": "True", "Parking": "{'lot': True, 'valet': False}"}
    business = {"business_id": "i", "name": "Spice", "categories": "Thai, Bars", "attributes": attributes, "stars": 4}
    row = read_downloaded_items(lines(tmp_path / "items.jsonl", business)).frame.row(0)
    assert row == ("i", "Spice", "categories: Thai, Bars\nattributes: WiFi: free, Caters, Parking (lot)")


def test_nested_categories_are_one_list(tmp_path: Path) -> None:
    product = {"asin": "i", "title": "Cable", "category": [["Music", "Cables"], ["Music"]], "description": ["a", "b"]}
    row = read_downloaded_items(lines(tmp_path / "items.jsonl", product)).frame.row(0)
    assert row[2] == "category: Music, Cables, Music\ndescription: a, b"


@pytest.mark.skipif(not REAL.exists(), reason="the real reviews are not here")
@pytest.mark.parametrize(
    ("name", "reviews", "items"),
    [("amazon/reviews", 5535, "amazon/meta"), ("yelp/review", 3276, "yelp/business")],
)
def test_real_downloads_are_read_whole(name: str, reviews: int, items: str) -> None:
    read = read_downloaded_reviews(REAL / f"{name}.jsonl.gz")
    assert read.read == reviews
    described = read_downloaded_items(REAL / f"{items}.jsonl.gz").frame
    assert set(read.frame["item_id"]) <= set(described["item_id"])
