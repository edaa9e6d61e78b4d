"""What a model is asked, and what counts as an answer."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
import xxhash

Outcome = Literal[
    "answered",
    "length",
    "refused",
    "filtered",
    "empty",
    "endless_blanks",
    "invalid_json",
    "invalid_answer",
    "canary",
    "too_long",
    "rejected",
    "gave_up",
]

# A blank run as long as this is a grammar that found no end.
MAX_BLANKS = 200


class BadAnswerError(ValueError):
    """An answer that is none: its outcome and why."""

    def __init__(self, outcome: Outcome, reason: str, raw: str = "") -> None:
        super().__init__(reason)
        self.outcome: Outcome = outcome
        self.raw = raw


@dataclass(frozen=True, kw_only=True)
class Question:
    """One request: `row` says in messages whose it is and is never sent; `check` parses what comes back.

    `check` raises ValueError for an answer that breaks a rule of the stage. `canary` stands in the system message and
    must not come back. `sources` are the ids of the reviews that it was made from, `left_out` counts those that did
    not fit, `cut` texts of which only the beginning is sent.
    """

    stage: str
    row: str
    system: str
    user: str
    answer_schema: Mapping[str, Any]
    check: Callable[[str], Any] = field(compare=False)
    canary: str = ""
    sources: tuple[str, ...] = ()
    left_out: int = 0
    cut: int = 0

    @property
    def num_bytes(self) -> int:
        """Size of the prompt: no tokenizer makes more tokens of it, and few languages have fewer than a quarter."""
        return len(self.system.encode()) + len(self.user.encode())

    @property
    def estimated_tokens(self) -> int:
        """About four bytes a token, which English text has; an estimate."""
        return self.num_bytes // 4

    def key(self, **parameters: object) -> str:
        """The same for the same question, asked of the same model of the same server with the same parameters."""
        parts = [self.system, self.user, self.answer_schema, parameters]
        return xxhash.xxh3_128_hexdigest(json.dumps(parts, sort_keys=True).encode())


def checked(question: Question, content: str) -> Any:
    """The parsed answer. Raises BadAnswerError."""
    if not content:
        raise BadAnswerError("empty", "expected an answer, got none")
    blanks = len(content) - len(content.rstrip())
    if blanks > MAX_BLANKS or not content.strip():
        raise BadAnswerError("endless_blanks", f"expected JSON, got {blanks} blanks at its end", content)
    if question.canary and question.canary in content:
        raise BadAnswerError("canary", "the answer repeats what the system message says of itself", content)
    try:
        text = bare_json(content)
        json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadAnswerError("invalid_json", f"expected JSON, got {content[:60]!r}: {error}", content) from error
    try:
        return question.check(text)
    except (msgspec.ValidationError, ValueError) as error:
        raise BadAnswerError("invalid_answer", str(error), content) from error


def bare_json(content: str) -> str:
    """The object that an answer holds, without the fence or the sentence that models put around it."""
    start, end = content.find("{"), content.rfind("}")
    if start < 0 or end < start:
        raise ValueError("no object in it")
    return content[start : end + 1]
