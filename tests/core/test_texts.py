import polars as pl

from personarank_dagster.core import schemas
from personarank_dagster.core.texts import TextTemplate

PERSONA = pl.DataFrame(
    [["i1", "P1", "i1_P1", "Night Owl", " reads \n late ", "", "A lamp"]],
    schema=schemas.PERSONAS,
    orient="row",
)


def interaction(**aspects: str) -> pl.DataFrame:
    row = {"item_id": "i1", "item_summary": "A lamp", **aspects}
    schema = {**schemas.histories("amazon"), "timestamp": pl.Int64()}
    return pl.DataFrame([{name: row.get(name) for name in schema}], schema=schema)


def test_a_persona_has_its_fields_a_line_each_and_empty_ones_left_out() -> None:
    text = TextTemplate("amazon").persona_texts(PERSONA)[0]
    assert text == "passage: [Persona]\nName: Night Owl\nDescription: reads late\nItem Summary: A lamp"


def test_only_the_chosen_persona_fields_are_written() -> None:
    assert TextTemplate("amazon", persona_fields=("N",)).persona_texts(PERSONA)[0] == (
        "passage: [Persona]\nName: Night Owl"
    )


def test_an_interaction_has_the_labelled_aspects_and_their_reasons() -> None:
    rows = interaction(usage_context="bedside", usage_context_reason="says so", purchase_purpose_reason="no purpose")
    assert TextTemplate("amazon").interaction_texts(rows)[0] == (
        "query: [UserProfile-Interaction]\nItem Summary: A lamp\n"
        "Usage Context: bedside\nUsage Context Reason: says so"
    )


def test_summary_mode_leaves_the_aspects_out() -> None:
    rows = interaction(usage_context="bedside")
    text = TextTemplate("amazon", with_aspects=False).interaction_texts(rows)[0]
    assert text == "query: [UserProfile-Interaction]\nItem Summary: A lamp"


def test_the_item_id_is_written_only_if_asked_for() -> None:
    template = TextTemplate("amazon", with_aspects=False, include_item_id=True)
    assert template.interaction_texts(interaction())[0].splitlines()[1] == "Item ID: i1"
    assert "i1" not in TextTemplate("amazon").persona_texts(PERSONA)[0]
