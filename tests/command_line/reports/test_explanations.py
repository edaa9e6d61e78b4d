"""The words of a place."""

from typing import Any

import pytest

from personarank_dagster.command_line.reports import explanations
from personarank_dagster.command_line.reports.explanations import (
    NO_PERSONAS,
    NO_PERSONAS_LEARNED,
    NO_PERSONAS_UP,
    _block,
)

REASON = {"item_id": "B2", "contribution": 0.05, "rating": 4.0, "item_summary": "a lamp that " + "shines " * 20}
PLACE: dict[str, Any] = {
    "rank": 2,
    "candidate_rank": 1,
    "item_id": "B1",
    "item_summary": "a chair",
    "persona_score": 0.04,
    "unique_persona_id": "B1_P1",
    "persona": "Owl",
    "rationale": "reads at night",
    "evidence": [],
    "interactions": [REASON],
}
WITHOUT = PLACE | {"unique_persona_id": None, "persona_score": None, "interactions": []}


def test_a_place_is_a_block_of_an_item_a_persona_and_what_interactions_add() -> None:
    item, persona, reason = _block(PLACE)
    assert "1 → 2" in item
    assert item.endswith("[bold]B1[/] a chair")
    assert persona.strip() == "for [bold]Owl[/] (0.04): reads at night"
    assert reason.strip().startswith("+0.05 B2 4★ [dim]a lamp")


@pytest.mark.parametrize(("rank", "words"), [(1, NO_PERSONAS), (3, NO_PERSONAS), (0, NO_PERSONAS_UP)])
def test_an_item_without_personas_that_rises_says_how_it_can(rank: int, words: str) -> None:
    assert words + "[/]" in _block(WITHOUT | {"rank": rank})[1]


def test_in_a_learned_blend_an_item_without_personas_has_no_undivided_score() -> None:
    signals = dict.fromkeys([name for names in explanations.SIGNAL_KINDS.values() for name in names], 0.5)
    lines = _block(WITHOUT | {"rank": 0, "score": 4.0, "signals": signals})
    assert "personas +2.50" in lines[1]
    assert NO_PERSONAS_LEARNED in lines[2]


def test_a_screen_cuts_texts_and_no_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explanations, "screen_width", lambda: 60)
    long = PLACE | {"item_id": "B" * 70}
    assert _block(long)[0].endswith(f"{'B' * 70}[/]  …")
    assert _block(long)[2].endswith("shines …[/]")
