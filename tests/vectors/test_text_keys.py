import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from personarank_dagster.vectors.text_keys import OrderedKeys, distinct_rows, rows_of_keys, text_keys


def test_equal_texts_have_equal_keys() -> None:
    texts = pl.Series(["b", "a", "b", "", "a b"])
    keys = text_keys(texts)
    assert keys.shape == (5, 2)
    assert (keys[0] == keys[2]).all()
    assert len(np.unique(keys, axis=0)) == 4
    assert text_keys(pl.Series([], dtype=pl.String)).shape == (0, 2)


def test_distinct_rows_stand_in_the_order_of_first_appearance() -> None:
    first, rows = distinct_rows(text_keys(pl.Series(["b", "a", "b", "c", "a"])))
    assert first.tolist() == [0, 1, 3]
    assert rows.tolist() == [0, 1, 0, 2, 1]


def test_keys_that_share_one_half_are_different() -> None:
    keys = np.array([[1, 1], [1, 2], [2, 1], [1, 2]], dtype=np.uint64)
    assert distinct_rows(keys)[1].tolist() == [0, 1, 2, 1]


@given(st.lists(st.lists(st.integers(0, 6), max_size=12), max_size=4), st.lists(st.integers(0, 8), max_size=20))
def test_keys_that_are_sorted_once_are_found_in_each_table_as_one_by_one(
    tables: list[list[int]], wanted: list[int]
) -> None:
    keys = as_keys(wanted)
    ordered = OrderedKeys.of(keys)
    for values in tables:
        table = np.ascontiguousarray(as_keys(sorted(set(values))).T)
        found = np.full(len(keys), -1)
        columns, at = ordered.found_in(table)
        found[at] = columns
        assert ordered.in_their_order(found).tolist() == rows_of_keys(table, keys).tolist()


def as_keys(values: list[int]) -> np.ndarray:
    """Keys whose halves collide."""
    return np.array([[value // 3, value % 3] for value in values], np.uint64).reshape(-1, 2)
