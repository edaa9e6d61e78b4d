import polars as pl
import pytest

from personarank_dagster.defs.ranking.explanations import _note


@pytest.mark.parametrize(
    ("scores", "says"), [([], "no persona scores"), ([0.5], "a single"), ([0.5, 0.501], "but for rounding")]
)
def test_a_list_that_keeps_its_order_says_why(scores: list[float], says: str) -> None:
    assert says in str(_note(pl.Series(scores, dtype=pl.Float64), learned=False))


def test_a_list_that_personas_order_needs_no_note() -> None:
    assert _note(pl.Series([0.5, 0.6]), learned=False) is None
