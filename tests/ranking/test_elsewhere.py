import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from personarank_dagster.ranking import elsewhere
from personarank_dagster.ranking.elsewhere import lists_in


def table(lengths: list[int]) -> pl.DataFrame:
    users = [f"u{user}" for user, length in enumerate(lengths) for _ in range(length)]
    return pl.DataFrame({"user_id": users}, schema={"user_id": pl.String}).with_row_index("row")


@given(st.lists(st.integers(1, 9), max_size=12), st.integers(1, 10), st.integers(1, 4))
def test_shards_of_rows_hold_every_list_once_and_whole(lengths: list[int], size: int, tail: int) -> None:
    lists, before = table(lengths), elsewhere.TAIL_ROWS
    elsewhere.TAIL_ROWS = tail
    shards = [lists_in(lists.lazy(), begin, begin + size) for begin in range(0, max(1, lists.height), size)]
    elsewhere.TAIL_ROWS = before
    assert pl.concat(shards).equals(lists)
    users = [user for shard in shards for user in shard["user_id"].unique()]
    assert len(users) == len(set(users))


def test_a_shard_in_the_middle_of_a_list_holds_none_of_it() -> None:
    assert lists_in(table([5, 2]).lazy(), 1, 4)["row"].to_list() == []
    assert lists_in(table([5, 2]).lazy(), 4, 6)["row"].to_list() == [5, 6]
