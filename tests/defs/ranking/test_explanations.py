import polars as pl
import pytest

from personarank_dagster.core import schemas
from personarank_dagster.defs.ranking.explanations import _note


@pytest.mark.parametrize(
    ("scores", "says"), [([], "no persona scores"), ([0.5], "a single"), ([0.5, 0.501], "but for rounding")]
)
def test_a_list_that_keeps_its_order_says_why(scores: list[float], says: str) -> None:
    assert says in str(_note(pl.DataFrame({"persona_score": pl.Series(scores, dtype=pl.Float64)})))


def test_a_list_that_personas_order_needs_no_note() -> None:
    assert _note(pl.DataFrame({"persona_score": [0.5, 0.6]})) is None


def learned(**parts: float) -> pl.DataFrame:
    names = dict.fromkeys(schemas.SIGNAL_NAMES, 0.0)
    return pl.DataFrame({"persona_score": [0.5, 0.5], "signals": [names, names | parts]})


def test_with_a_learned_blend_every_signal_of_personas_is_asked() -> None:
    assert _note(learned(every_interaction=-0.4)) is None
    assert "no persona adds" in str(_note(learned(popularity=0.4, rank=0.2)))
