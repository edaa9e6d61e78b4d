import numpy as np
import polars as pl

from personarank_dagster.vectors.text_keys import distinct_rows, text_keys


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
