"""The aspects of every training review that has a text."""

from typing import Any

import msgspec
import polars as pl

from personarank_dagster.core import schemas
from personarank_dagster.core.aspects import SchemaName, aspect_columns
from personarank_dagster.preparation.prompt_files import Prompt
from personarank_dagster.preparation.questions import Question
from personarank_dagster.preparation.reviews.evidence import Limits, as_data, num_cut, safe_text
from personarank_dagster.preparation.reviews.split import TrainingReviews
from personarank_dagster.preparation.stages.item_summaries import review_texts

STAGE = "review_aspects"

MOST_CHARACTERS = 1000


def questions(
    items: pl.DataFrame, reviews: TrainingReviews, schema: SchemaName, prompt: Prompt, limits: Limits
) -> list[Question]:
    """One question for each review with a text, in the order of the ids."""
    titles = dict(items.select("item_id", "title").iter_rows())
    keys = aspect_columns(schema)
    answer = _answer_schema(keys)
    written = reviews.table.filter(pl.col("text").is_not_null() | pl.col("title").is_not_null())
    return [
        Question(
            stage=STAGE,
            row=row["review_id"],
            system=prompt.filled(aspects=", ".join(keys)),
            user=as_data(
                {
                    "item": safe_text(titles.get(row["item_id"]), mask=limits.mask_contacts),
                    "rating": row["rating"],
                    **review_texts(row, limits),
                }
            ),
            answer_schema=answer,
            check=lambda content: _aspects(content, keys),
            canary=prompt.canary,
            sources=(row["review_id"],),
            cut=num_cut(row["text"]),
        )
        for row in written.sort("review_id").iter_rows(named=True)
    ]


def _answer_schema(keys: tuple[str, ...]) -> dict[str, Any]:
    """All keys required and nullable: optional ones blow grammars up."""
    return {
        "type": "object",
        "properties": {key: {"type": ["string", "null"], "maxLength": 300} for key in keys},
        "required": list(keys),
        "additionalProperties": False,
    }


def _aspects(content: str, keys: tuple[str, ...]) -> dict[str, str | None]:
    given = msgspec.json.decode(content, type=dict[str, str | None])
    if set(given) != set(keys):
        raise ValueError(f"expected the keys {', '.join(keys)}, got {', '.join(given)}")
    if longest := [key for key, value in given.items() if value and len(value) > MOST_CHARACTERS]:
        raise ValueError(f"{longest[0]} is longer than {MOST_CHARACTERS} characters")
    return {key: (given[key] or "").strip() or None for key in keys}


def table(answers: dict[str, dict[str, str | None]], schema: SchemaName) -> pl.DataFrame:
    """One row per review: review_id and its aspects."""
    rows = [{"review_id": review_id, **aspects} for review_id, aspects in answers.items()]
    return pl.DataFrame(rows, schema=schemas.review_aspects(schema))
