"""A summary of every item, from what its source and its reviewers say."""

from typing import Annotated, Any

import msgspec
import polars as pl
from msgspec import Meta

from personarank_dagster.core import schemas
from personarank_dagster.preparation.prompt_files import Prompt
from personarank_dagster.preparation.questions import Question
from personarank_dagster.preparation.reviews.evidence import UNSENT, Limits, as_data, num_cut, safe_text, sampled
from personarank_dagster.preparation.reviews.split import TrainingReviews

STAGE = "item_summaries"

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"summary": {"type": "string", "maxLength": 1200}},
    "required": ["summary"],
    "additionalProperties": False,
}


class Answer(msgspec.Struct, forbid_unknown_fields=True):
    """What a model answers."""

    summary: Annotated[str, Meta(min_length=10, max_length=3000)]


def questions(items: pl.DataFrame, reviews: TrainingReviews, prompt: Prompt, limits: Limits) -> list[Question]:
    """One question for each item that was reviewed, in the order of the ids."""
    known = {row["item_id"]: row for row in items.iter_rows(named=True)}
    groups = reviews.table.sort("item_id", "timestamp", "review_id").partition_by("item_id", maintain_order=True)
    return [_question(group, known.get(group["item_id"][0], {}), prompt, limits) for group in groups]


def _question(group: pl.DataFrame, item: dict[str, Any], prompt: Prompt, limits: Limits) -> Question:
    written = [row for row in group.iter_rows(named=True) if row["text"] or row["title"]]
    rows = [
        {"order": order, "review_id": row["review_id"], "rating": row["rating"], **review_texts(row, limits)}
        for order, row in enumerate(written)
    ]
    shown = sampled(rows, most_bytes=limits.text_bytes)
    given = {
        "title": safe_text(item.get("title"), mask=limits.mask_contacts),
        "description": safe_text(item.get("description"), mask=limits.mask_contacts),
        "reviews": [{name: value for name, value in row.items() if name not in UNSENT} for row in shown],
    }
    return Question(
        stage=STAGE,
        row=group["item_id"][0],
        system=prompt.filled(),
        user=as_data(given),
        answer_schema=SCHEMA,
        check=lambda content: msgspec.json.decode(content, type=Answer).summary.strip(),
        sources=tuple(row["review_id"] for row in shown),
        left_out=len(rows) - len(shown),
        cut=num_cut(item.get("description"), *(row["text"] for row in written)),
        canary=prompt.canary,
    )


def review_texts(row: dict[str, Any], limits: Limits) -> dict[str, str | None]:
    """Title and text of a review, as they may be sent."""
    return {name: safe_text(row[name], mask=limits.mask_contacts) for name in ("title", "text") if row[name]}


def table(answers: dict[str, str]) -> pl.DataFrame:
    """One row per item: item_id, item_summary."""
    return pl.DataFrame(list(answers.items()), schema=schemas.ITEM_SUMMARIES, orient="row")
