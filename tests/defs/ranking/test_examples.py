from datetime import datetime, timedelta

import polars as pl
import pytest

from personarank_dagster.core import schemas
from personarank_dagster.defs.platform.figures import picture
from personarank_dagster.defs.ranking.examples import example_lists, example_users
from personarank_dagster.defs.ranking.pictures import movement, report_lines


def lists(**old_places: list[int]) -> pl.DataFrame:
    """Lists of users by their names: the old places in the new order, of items named after them."""
    names = ("user_id", "rank", "candidate_rank", "item_id", "unique_persona_id")
    rows = [
        dict(zip(names, (user, rank, old, f"i{old}", f"i{old}_P1"), strict=True))
        for user, order in old_places.items()
        for rank, old in enumerate(order, start=1)
    ]
    return pl.DataFrame(rows, schema={name: schemas.RERANKED[name] for name in names})


PERSONAS = pl.LazyFrame({"unique_persona_id": ["i3_P1", "i1_P1"], "name": ["Late | night <b> jazz", "x" * 99]})
THREE = lists(still=[1, 2, 3], turned=[3, 2, 1], swapped=[2, 1, 3])


def test_the_examples_are_who_moved_most_who_least_and_one_between() -> None:
    assert example_users(THREE) == {"moved most": "turned", "in the middle": "swapped", "moved least": "still"}
    assert example_users(lists(only=[1, 2])) == {"moved least": "only"}
    assert example_users(THREE.clear()) == {}


def test_an_example_shows_both_orders_the_persona_and_the_command_that_explains_it() -> None:
    text = str(example_lists("amazon", lists(**{"a b": [3, 2, 1]}).lazy(), PERSONAS))
    assert "| 1 | i1 | i3 | 3 | Late \\| night \\<b\\> jazz |" in text
    assert "| 2 | i2 | i2 | 2 | none: by the score of the retriever alone |" in text
    assert f"| 3 | i3 | i1 | 1 | {'x' * 47}… |" in text
    assert "\npersonarank explain --partition amazon --user 'a b'\n" in text


@pytest.mark.parametrize("table", [THREE, THREE.lazy()])
def test_the_movement_of_all_and_of_one_is_drawn_without_the_names_of_users(
    table: pl.DataFrame | pl.LazyFrame,
) -> None:
    figure = movement(table)
    assert figure is not None
    all_users, one_user = figure.axes
    assert [(round(bar.get_center()[0]), bar.get_height()) for bar in all_users.patches] == [
        (-2, 1), (-1, 1), (0, 5), (1, 1), (2, 1),
    ]  # fmt: skip
    assert [list(line.get_ydata()) for line in one_user.lines] == [[3, 1], [2, 2], [1, 3]]
    assert not any("turned" in text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))


def test_the_report_has_a_line_a_dataset_over_time() -> None:
    versions = {"amazon": ["20260101T120000000000-a", "20260102T120000000000-b"], "yelp": ["20260101T130000000000-c"]}
    rows = [
        {"dataset": dataset, "version": version, "metric": "NDCG", "k": 10, "scenario": "all", "lift": 0.1,
         "lift_low": 0.0, "lift_high": 0.2}
        for dataset, names in versions.items() for version in names
    ]  # fmt: skip
    figure = report_lines(pl.DataFrame(rows))
    assert figure is not None
    (axes,) = figure.axes
    assert {one.get_label(): len(one.lines[0].get_xdata()) for one in axes.containers} == {"amazon": 2, "yelp": 1}
    assert report_lines(pl.DataFrame(schema=schemas.REPORT)) is None


@pytest.mark.parametrize("seconds", [1, 119, 240, 290, 7_100, 170_000, 4_000_000, 50_000_000])
def test_the_report_is_drawn_without_a_warning_whatever_time_it_spans(seconds: int) -> None:
    begin = datetime(2026, 1, 1)
    names = [f"{begin + timedelta(seconds=part):%Y%m%dT%H%M%S}000000-a" for part in (0, seconds)]
    row = {"dataset": "amazon", "metric": "NDCG", "k": 10, "scenario": "all"}
    row |= {"lift": 0.1, "lift_low": 0.0, "lift_high": 0.2}
    figure = report_lines(pl.DataFrame([row | {"version": name} for name in names]))
    assert figure is not None
    picture(figure)
