"""Texts of strangers as they may be sent: masked, cut, and as many as fit."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any

import polars as pl

from personarank_dagster.core.errors import ContractError
from personarank_dagster.preparation.questions import Question
from personarank_dagster.preparation.reviews.contacts import without_contacts
from personarank_dagster.preparation.reviews.split import HeldOutReviews

# Of one review; what is cut off is counted.
MOST_CHARACTERS = 4000

# Of a row of a sample: what it is told from others by here.
UNSENT = ("order", "review_id")

# English text has four bytes a token, other scripts fewer.
BYTES_PER_TOKEN = 3


@dataclass(frozen=True)
class Limits:
    """How much of a prompt may be text, and whether contacts are masked."""

    context_tokens: int = 8192
    max_tokens: int = 1024
    mask_contacts: bool = True

    @property
    def text_bytes(self) -> int:
        """Bytes that are left for texts beside the system message, the schema and the answer."""
        return max(512, (self.context_tokens - self.max_tokens - 1000) * BYTES_PER_TOKEN)


def safe_text(text: str | None, *, mask: bool) -> str | None:
    """A text without contacts, cut at `MOST_CHARACTERS`."""
    if text is None:
        return None
    return (without_contacts(text) if mask else text)[:MOST_CHARACTERS]


def num_cut(*texts: str | None) -> int:
    """How many of the texts are longer than what is sent of them."""
    return sum(len(text or "") > MOST_CHARACTERS for text in texts)


def as_data(values: Any) -> str:
    """The user message: JSON, so that no text ends where it does not."""
    return json.dumps(values, ensure_ascii=False)


def sampled(rows: Sequence[dict[str, Any]], *, most_bytes: int) -> list[dict[str, Any]]:
    """As many rows as fit: newest first, in turn of every rating, in the order of their time in the end.

    A row has `rating`, and `order`, which counts up with time; the sample is the same for the same rows.
    """
    by_rating: dict[float, list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: -row["order"]):
        by_rating.setdefault(row["rating"], []).append(row)
    in_turn = chain.from_iterable(zip_longest(*(by_rating[rating] for rating in sorted(by_rating, reverse=True))))
    kept: list[dict[str, Any]] = []
    num_bytes = 0
    for row in filter(None, in_turn):
        num_bytes += len(as_data(row).encode())
        if kept and num_bytes > most_bytes:
            break
        kept.append(row)
    return sorted(kept, key=lambda row: row["order"])


def refuse_held_out(questions: Sequence[Question], held_out: HeldOutReviews, *, mask: bool) -> None:
    """Raise ContractError if a held-out text stands in a question."""
    if leaking := _leaking(questions, held_out, mask=mask):
        raise ContractError(
            f"{leaking[0].stage}: the question of {leaking[0].row} holds a text that is held out; nothing was sent"
        )


def num_held_out(questions: Sequence[Question], held_out: HeldOutReviews, *, mask: bool) -> int:
    """In how many questions a held-out text stands."""
    return len(_leaking(questions, held_out, mask=mask))


def _leaking(questions: Sequence[Question], held_out: HeldOutReviews, *, mask: bool) -> list[Question]:
    texts = [as_data(text)[1:-1] for text in held_out.fingerprints(mask=mask)]
    if not texts or not questions:
        return []
    found = pl.Series([question.user for question in questions]).str.contains_any(texts)
    return [question for question, leaks in zip(questions, found, strict=True) if leaks]
