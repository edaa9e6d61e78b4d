import polars as pl
import pytest

from personarank_dagster.core.errors import InputError
from personarank_dagster.core.histories import liked_interactions, liked_targets, training_pairs

HISTORIES = pl.DataFrame(
    {
        "user_id": ["u"] * 5 + ["v"] * 2,
        "position": [0, 1, 2, 3, 4, 0, 1],
        "item_id": ["a", "b", "c", "d", "b", "a", "c"],
        "rating": [5.0, 4.0, 1.0, 3.0, 5.0, 2.0, 4.0],
    },
    schema_overrides={"position": pl.UInt32},
)
LIKED = liked_interactions(HISTORIES, min_rating=3.0)


def pairs(*targets: tuple[str, str], k: int = 10):
    selections = pl.DataFrame(
        [(user, item, f"{item}_P1", item != "a") for user, item in targets],
        schema=["user_id", "target_item_id", "unique_persona_id", "resolved"],
        orient="row",
    )
    return training_pairs(selections, HISTORIES, LIKED, k=k)


def test_every_liked_interaction_is_a_target_with_the_persona_that_was_selected_for_it() -> None:
    selections = pl.DataFrame(
        {"user_id": ["u"], "target_item_id": ["d"], "unique_persona_id": ["d_P2"], "resolved": [True]}
    )
    targets = liked_targets(LIKED, selections, pl.Series(["a", "b", "d"]))
    assert targets.drop("resolved").rows() == [("u", "a", None), ("u", "b", None), ("u", "d", "d_P2")]
    result = training_pairs(targets, HISTORIES, LIKED, k=10)
    assert result.frame["target_item_id"].to_list() == ["b", "d"]
    assert [items(result, number) for number in range(2)] == [["a"], ["a", "b"]]
    assert result.left_out["no liked interaction before the target"] == 1


def items(result, number: int) -> list[str]:
    return LIKED["item_id"][result.windows.starts[number] : result.windows.ends[number]].to_list()


def test_only_interactions_rated_high_enough_are_liked_and_age_counts_from_the_newest() -> None:
    assert LIKED.select("user_id", "item_id", "age").rows() == [
        ("u", "a", 3),
        ("u", "b", 2),
        ("u", "d", 1),
        ("u", "b", 0),
        ("v", "c", 0),
    ]


def test_a_window_holds_the_liked_interactions_before_the_target() -> None:
    assert items(pairs(("u", "d")), 0) == ["a", "b"]


def test_a_window_holds_the_last_k() -> None:
    assert items(pairs(("u", "d"), k=1), 0) == ["b"]


def test_a_target_reviewed_twice_counts_from_its_first_review() -> None:
    assert items(pairs(("u", "b")), 0) == ["a"]


def test_pairs_stay_in_the_order_of_the_selections() -> None:
    result = pairs(("u", "d"), ("u", "b"), ("u", "d"))
    assert result.frame["target_item_id"].to_list() == ["d", "b", "d"]


def test_what_cannot_be_trained_on_is_counted() -> None:
    result = pairs(("u", "d"), ("u", "a"), ("v", "c"), ("w", "d"), ("u", "c"))
    assert result.frame["target_item_id"].to_list() == ["d"]
    assert result.left_out == {
        "the persona is not in the catalogue": 1,
        "target not in the user's history": 1,
        "target rated below min_rating": 1,
        "no liked interaction before the target": 1,
    }


def test_no_pair_at_all_is_an_error_that_says_why() -> None:
    with pytest.raises(InputError, match=r"no target can be trained on, of 1: .*before the target 1"):
        pairs(("v", "c"))


def test_a_target_is_liked_if_one_of_its_reviews_is() -> None:
    twice = HISTORIES.with_columns(rating=pl.Series([5.0, 1.0, 1.0, 3.0, 5.0, 2.0, 4.0]))
    selections = pl.DataFrame(
        {"user_id": ["u"], "target_item_id": ["b"], "unique_persona_id": ["b_P1"], "resolved": True}
    )
    result = training_pairs(selections, twice, liked_interactions(twice, min_rating=3.0), k=10)
    assert (result.windows.starts.tolist(), result.windows.ends.tolist()) == ([0], [1])
