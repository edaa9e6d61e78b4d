"""Which persona of a user's training target fits what the user liked before."""

import random
from collections.abc import Collection
from typing import Annotated, Any

import msgspec
import polars as pl
from msgspec import Meta

from personarank_dagster.core import schemas
from personarank_dagster.core.aspects import SchemaName, aspect_columns
from personarank_dagster.preparation.prompt_files import Prompt
from personarank_dagster.preparation.questions import Question
from personarank_dagster.preparation.reviews.evidence import UNSENT, Limits, as_data, safe_text, sampled
from personarank_dagster.preparation.reviews.split import Split

STAGE = "persona_selections"

# Interactions before the target that a model is shown.
MOST_INTERACTIONS = 10


class Answer(msgspec.Struct, forbid_unknown_fields=True):
    """What a model answers."""

    persona: str
    reason: Annotated[str, Meta(min_length=2, max_length=2000)]


def questions(
    split: Split,
    items: pl.DataFrame,
    aspects: pl.DataFrame,
    personas: pl.DataFrame,
    schema: SchemaName,
    prompt: Prompt,
    limits: Limits,
    *,
    users: Collection[str],
    seed: int,
) -> list[Question]:
    """One question for each of these users with a history before a target that has personas, by id."""
    offered = {group["item_id"][0]: group for group in personas.partition_by("item_id", maintain_order=True)}
    titles = dict(items.select("item_id", "title").iter_rows())
    wanted = _before_target(split).filter(pl.col("user_id").is_in(list(users)))
    known = wanted.join(aspects, on="review_id", how="left", maintain_order="left")
    return [
        _question(group, offered[target], titles, schema, prompt, limits, seed=seed)
        for group in known.partition_by("user_id", maintain_order=True)
        if (target := group["target"][0]) in offered
    ]


def _before_target(split: Split) -> pl.DataFrame:
    """Interactions of each user that are older than the first review of the target, with it."""
    reviews = split.training.table
    targets = split.targets.rename({"item_id": "target"})
    both = reviews.join(targets, on="user_id", maintain_order="left")
    first = (
        both.filter(pl.col("item_id") == pl.col("target")).group_by("user_id").agg(moment=pl.col("timestamp").min())
    )
    older = both.join(first, on="user_id").filter(pl.col("timestamp") < pl.col("moment"))
    return older.sort("user_id", "timestamp", "review_id")


def _question(
    history: pl.DataFrame,
    personas: pl.DataFrame,
    titles: dict[str, str],
    schema: SchemaName,
    prompt: Prompt,
    limits: Limits,
    *,
    seed: int,
) -> Question:
    user_id = history["user_id"][0]
    shown = list(personas.iter_rows(named=True))
    random.Random(f"{seed} {user_id}").shuffle(shown)
    by_id = {f"P{place}": persona for place, persona in enumerate(shown, 1)}
    rows = [
        {
            "order": order,
            "review_id": row["review_id"],
            "item": safe_text(titles.get(row["item_id"]), mask=limits.mask_contacts),
            "rating": row["rating"],
            **{key: row[key] for key in aspect_columns(schema) if row[key]},
        }
        for order, row in enumerate(history.tail(MOST_INTERACTIONS).iter_rows(named=True))
    ]
    liked = sampled(rows, most_bytes=limits.text_bytes)
    given = {
        "history": [{name: value for name, value in row.items() if name not in UNSENT} for row in liked],
        "personas": [{"id": short, **_shown(persona)} for short, persona in by_id.items()],
    }
    return Question(
        stage=STAGE,
        row=user_id,
        system=prompt.filled(),
        user=as_data(given),
        answer_schema=_answer_schema(list(by_id)),
        check=lambda content: _selection(content, by_id),
        canary=prompt.canary,
        sources=tuple(row["review_id"] for row in liked),
        left_out=history.height - len(liked),
    )


def _shown(persona: dict[str, Any]) -> dict[str, Any]:
    return {name: persona[name] for name in ("name", "description", "preference_rationale")}


def _answer_schema(persona_ids: list[str]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "persona": {"type": "string", "enum": persona_ids},
            "reason": {"type": "string", "maxLength": 500},
        },
        "required": ["persona", "reason"],
        "additionalProperties": False,
    }


def _selection(content: str, by_id: dict[str, dict[str, Any]]) -> dict[str, Any]:
    answer = msgspec.json.decode(content, type=Answer)
    if answer.persona not in by_id:
        raise ValueError(f"persona must be one of {', '.join(by_id)}, got {answer.persona!r}")
    persona = by_id[answer.persona]
    return {"persona": persona, "reason": answer.reason, "offered_as": answer.persona, "offered": len(by_id)}


def table(answers: dict[str, dict[str, Any]]) -> pl.DataFrame:
    """One row per user: the columns of `selected_personas`, and what the persona was offered as, among how many."""
    rows = [
        {
            "user_id": user_id,
            "target_item_id": answer["persona"]["item_id"],
            "unique_persona_id": answer["persona"]["unique_persona_id"],
            "selected_persona_name": answer["persona"]["name"],
            "selection_reasoning": answer["reason"],
            "resolved": True,
            "offered_as": answer["offered_as"],
            "offered": answer["offered"],
        }
        for user_id, answer in answers.items()
    ]
    return pl.DataFrame(rows, schema=schemas.PERSONA_SELECTIONS)
