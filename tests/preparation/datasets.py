"""A handful of raw reviews, and their way through the stages with the stand-in's answers."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from personarank_dagster.configuration.prepare_settings import PrepareConfig
from personarank_dagster.core import schemas
from personarank_dagster.preparation.pipeline import Preparation, Prepared, scope_of, split_of
from personarank_dagster.preparation.questions import Question, checked
from personarank_dagster.preparation.stand_in import answer_from

START = datetime(2020, 1, 1, tzinfo=UTC)
CONFIG = PrepareConfig(base_url="http://stand-in/v1", model="stand-in")
ITEMS = pl.DataFrame([(f"item-{i}", f"Thing {i}", None) for i in range(6)], schema=schemas.ITEMS, orient="row")


def review(number: int, user: int, item: int, **changes: Any) -> dict[str, Any]:
    sound = "bright" if item % 2 else "warm"
    text = f"Review {number}: the {sound} strings sound lovely on my old guitar, number {number}"
    row = {
        "review_id": f"review-{number}",
        "user_id": f"user-{user}",
        "item_id": f"item-{item}",
        "rating": 5.0,
        "timestamp": START + timedelta(days=number),
        "title": None,
        "text": text,
    }
    return row | changes


def reviews(*changed: dict[str, Any]) -> pl.DataFrame:
    """Four users, six items, five reviews of each user, and those that are given."""
    rows = [review(5 * user + step, user, (user + step) % 6) for user in range(4) for step in range(5)]
    return pl.DataFrame([*rows, *changed], schema=schemas.REVIEWS).sort("user_id", "timestamp")


def prepared(table: pl.DataFrame, config: PrepareConfig = CONFIG, **scope: int) -> tuple[Prepared, list[Question]]:
    """The tables, and all questions that were asked."""
    asked: list[Question] = []

    def ask(stage: str, questions: Sequence[Question]) -> dict[str, Any]:
        asked.extend(questions)
        return {question.row: checked(question, stand_in_answer(question)) for question in questions}

    split = split_of(table, config)
    preparation = Preparation(config, "amazon", split, scope_of(split, **scope), ITEMS)
    return preparation.tables(ask), asked


def stand_in_answer(question: Question) -> str:
    body = {
        "messages": [{"role": "user", "content": question.user}],
        "response_format": {"json_schema": {"schema": question.answer_schema}},
    }
    return json.dumps(answer_from(body))
