"""Personas of every item: who would like it and why, and the reviews that each rests on."""

from typing import Annotated, Any

import msgspec
import polars as pl
from msgspec import Meta

from personarank_dagster.core import schemas
from personarank_dagster.core.aspects import SchemaName, aspect_columns
from personarank_dagster.preparation.prompt_files import Prompt
from personarank_dagster.preparation.questions import Question
from personarank_dagster.preparation.reviews.evidence import UNSENT, Limits, as_data, sampled
from personarank_dagster.preparation.reviews.split import TrainingReviews

STAGE = "item_personas"

# Longer than what the prompt asks for; what is somewhat longer is taken too, from servers that know no lengths.
ASKED_LENGTHS = {"name": 80, "description": 600, "preference_rationale": 900}


class Persona(msgspec.Struct, forbid_unknown_fields=True):
    """One persona, as a model answers it."""

    name: Annotated[str, Meta(min_length=2, max_length=120)]
    description: Annotated[str, Meta(min_length=2, max_length=1500)]
    preference_rationale: Annotated[str, Meta(min_length=2, max_length=2500)]
    evidence: Annotated[list[str], Meta(min_length=1)]


class Answer(msgspec.Struct, forbid_unknown_fields=True):
    """What a model answers."""

    personas: list[Persona]


def questions(
    summaries: pl.DataFrame,
    aspects: pl.DataFrame,
    reviews: TrainingReviews,
    schema: SchemaName,
    prompt: Prompt,
    limits: Limits,
    *,
    least: int,
    most: int,
) -> list[Question]:
    """One question for each item with a summary and a review whose aspects are known, in the order of the ids."""
    known = reviews.table.join(aspects, on="review_id").sort("item_id", "timestamp", "review_id")
    told = dict(summaries.iter_rows())
    groups = known.partition_by("item_id", maintain_order=True)
    return [
        _question(group, told[item_id], schema, prompt, limits, least=least, most=most)
        for group in groups
        if (item_id := group["item_id"][0]) in told
    ]


def _question(
    group: pl.DataFrame, summary: str, schema: SchemaName, prompt: Prompt, limits: Limits, *, least: int, most: int
) -> Question:
    rows = [
        {"order": order, "review_id": row["review_id"], "rating": row["rating"], **_said(row, schema)}
        for order, row in enumerate(group.iter_rows(named=True))
    ]
    chosen = sampled(rows, most_bytes=limits.text_bytes)
    review_ids = {f"R{place}": row["review_id"] for place, row in enumerate(chosen, 1)}
    shown = [
        {"id": short, **{name: value for name, value in row.items() if name not in UNSENT}}
        for short, row in zip(review_ids, chosen, strict=True)
    ]
    fewest, highest = (1, 1) if len(chosen) == 1 else (least, most)
    return Question(
        stage=STAGE,
        row=group["item_id"][0],
        system=prompt.filled(least=fewest, most=highest),
        user=as_data({"summary": summary, "reviews": shown}),
        answer_schema=_answer_schema(list(review_ids), fewest, highest),
        check=lambda content: _personas(content, review_ids, fewest, highest),
        canary=prompt.canary,
        sources=tuple(review_ids.values()),
        left_out=len(rows) - len(chosen),
    )


def _said(row: dict[str, Any], schema: SchemaName) -> dict[str, str]:
    return {key: row[key] for key in aspect_columns(schema) if row[key]}


def _answer_schema(review_ids: list[str], least: int, most: int) -> dict[str, Any]:
    properties = {name: {"type": "string", "maxLength": length} for name, length in ASKED_LENGTHS.items()}
    evidence = {"type": "array", "items": {"type": "string", "enum": review_ids}, "minItems": 1, "maxItems": 8}
    persona = {
        "type": "object",
        "properties": {**properties, "evidence": evidence},
        "required": [*properties, "evidence"],
        "additionalProperties": False,
    }
    personas = {"type": "array", "items": persona, "minItems": least, "maxItems": most}
    return {
        "type": "object",
        "properties": {"personas": personas},
        "required": ["personas"],
        "additionalProperties": False,
    }


def _personas(content: str, review_ids: dict[str, str], least: int, most: int) -> list[dict[str, Any]]:
    """Personas with the full ids of their reviews. Raises ValueError for a wrong count, an invented id or a copy."""
    personas = msgspec.json.decode(content, type=Answer).personas
    if not least <= len(personas) <= most:
        raise ValueError(f"expected {least} to {most} personas, got {len(personas)}")
    if invented := [one for persona in personas for one in persona.evidence if one not in review_ids]:
        raise ValueError(f"evidence must be one of the ids given, got {invented[0]!r}")
    if len({persona.description.casefold() for persona in personas}) < len(personas):
        raise ValueError("two personas have the same description")
    return [
        {**msgspec.structs.asdict(one), "evidence": sorted({review_ids[short] for short in one.evidence})}
        for one in personas
    ]


def table(answers: dict[str, list[dict[str, Any]]], summaries: pl.DataFrame) -> pl.DataFrame:
    """One row per persona: the columns of `personas`, and the ids of the reviews that it rests on."""
    told = dict(summaries.iter_rows())
    rows = [
        {
            "item_id": item_id,
            "persona_id": f"P{place}",
            "unique_persona_id": f"{item_id}_P{place}",
            "name": persona["name"],
            "description": persona["description"],
            "preference_rationale": persona["preference_rationale"],
            "item_summary": told[item_id],
            "review_ids": persona["evidence"],
        }
        for item_id, personas in answers.items()
        for place, persona in enumerate(personas, 1)
    ]
    return pl.DataFrame(rows, schema=schemas.ITEM_PERSONAS)
