"""Questions of a stage in, checked answers out: what is kept is not asked, what is bad is asked anew."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from personarank_dagster.core.errors import ConfigError, InputError
from personarank_dagster.preparation.client.server import Choice, Rung, Server, Usage
from personarank_dagster.preparation.client.token_counts import BY_BYTES, TokenCount
from personarank_dagster.preparation.questions import BadAnswerError, Outcome, Question, checked

# Shorter prompts do not tell whether a server cuts them.
CUT_FROM = 1000


@dataclass(frozen=True)
class SetAside:
    """A row without an answer: how its last try ended, and what the model wrote."""

    row: str
    outcome: Outcome
    reason: str
    raw: str


@dataclass
class Answers:
    """What a stage was answered, in the order of its questions, and how often what happened."""

    by_row: dict[str, Any]
    set_aside: list[SetAside] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What makes an answer another one (`base_url` to `request`), and how much may go wrong."""

    base_url: str
    model: str
    temperature: float = 0.0
    max_tokens: int = 1024
    seed: int = 13
    request: Mapping[str, Any] = field(default_factory=dict)
    repairs: int = 2
    max_bad_share: float = 0.05
    workers: int = 8
    tokens: TokenCount = BY_BYTES

    def key(self, question: Question) -> str:
        """The key that an answer is kept under."""
        names = ("base_url", "model", "temperature", "max_tokens", "seed", "request")
        return question.key(**{name: getattr(self, name) for name in names})


class Asker:
    """Asks a server the questions of stages; equal ones once."""

    def __init__(self, server: Server, rules: Rules) -> None:
        self.server, self.rules = server, rules
        self._asked: dict[str, asyncio.Future[str]] = {}

    async def ask(
        self, questions: Sequence[Question], *, on_answer: Callable[[int, int], None] = lambda done, total: None
    ) -> Answers:
        """Answers of all rows.

        Raises InputError where more than `max_bad_share` of them have none, as soon as that is sure.
        """
        answers = Answers({})
        if not questions:
            return answers
        remaining = iter(questions)
        tasks = [
            asyncio.create_task(self._work(remaining, answers, len(questions), on_answer))
            for _ in range(min(self.rules.workers, len(questions)))
        ]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._asked.clear()
        order = {question.row: place for place, question in enumerate(questions)}
        answers.by_row = {row: answers.by_row[row] for row in sorted(answers.by_row, key=order.__getitem__)}
        answers.set_aside.sort(key=lambda one: order[one.row])
        return answers

    async def _work(
        self, questions: Iterator[Question], answers: Answers, total: int, on_answer: Callable[[int, int], None]
    ) -> None:
        for question in questions:
            try:
                answers.by_row[question.row] = await self._answer(question, answers.outcomes)
            except BadAnswerError as error:
                answers.set_aside.append(SetAside(question.row, error.outcome, str(error), error.raw))
                self._check_share(answers.set_aside, total, question.stage)
            on_answer(len(answers.by_row) + len(answers.set_aside), total)

    async def _answer(self, question: Question, outcomes: Counter[str]) -> Any:
        key = self.rules.key(question)
        if (kept := self.server.kept.get(key)) is not None:
            try:
                answer = checked(question, kept)
            except BadAnswerError:
                outcomes["kept, no longer good"] += 1
            else:
                outcomes["kept"] += 1
                return answer
        if (other := self._asked.get(key)) is not None:
            await asyncio.wait([other])
            outcomes["asked already"] += 1
            return await self._answer(question, outcomes) if other.cancelled() else checked(question, other.result())
        return await self._answer_afresh(question, key, outcomes)

    async def _answer_afresh(self, question: Question, key: str, outcomes: Counter[str]) -> Any:
        """Ask, and keep what was found good; who asks the same meanwhile waits for it."""
        self._asked[key] = asyncio.get_running_loop().create_future()
        try:
            content, answer = await self._try(question, outcomes)
        except BaseException:
            self._asked.pop(key).cancel()
            raise
        self.server.kept.keep(key, content, stage=question.stage)
        self._asked.pop(key).set_result(content)
        return answer

    async def _try(self, question: Question, outcomes: Counter[str]) -> tuple[str, Any]:
        """A good answer: each further try is a fresh one with another seed, once with more tokens."""
        rung = await self.server.find_rung()
        max_tokens, longer = self.rules.max_tokens, False
        for attempt in range(self.rules.repairs + 1):
            try:
                content = await self._content(question, rung, max_tokens, self.rules.seed + attempt)
                answer = checked(question, content)
            except BadAnswerError as error:
                outcomes[error.outcome] += 1
                if attempt == self.rules.repairs or error.outcome in ("too_long", "rejected", "gave_up"):
                    raise
                if error.outcome == "length" and longer:
                    raise
                if error.outcome == "length":
                    max_tokens, longer = 2 * max_tokens, True
            else:
                outcomes["answered"] += 1
                return content, answer
        raise AssertionError("a try returns or raises")

    async def _content(self, question: Question, rung: Rung, max_tokens: int, seed: int) -> str:
        choice, usage = await self.server.complete(question, rung, max_tokens=max_tokens, seed=seed)
        self._check_whole(question, usage)
        check_finished(choice)
        return choice.message.content or ""

    def _check_whole(self, question: Question, usage: Usage | None) -> None:
        """Raise ConfigError where the server counted far fewer tokens than were sent: it cuts prompts silently."""
        if not usage or not usage.prompt_tokens or question.estimated_tokens < CUT_FROM:
            return
        tokens = self.rules.tokens
        if usage.prompt_tokens < tokens.whole_share * (expected := tokens.of(question)):
            raise ConfigError(
                f"{question.stage}: the server read {usage.prompt_tokens} tokens of a prompt of about {expected}: it "
                "cuts prompts silently; raise its context (Ollama: num_ctx), or lower context_tokens in prepare.yaml"
            )

    def _check_share(self, set_aside: Sequence[SetAside], total: int, stage: str) -> None:
        if len(set_aside) > self.rules.max_bad_share * total:
            last = set_aside[-1]
            raise InputError(
                f"{stage}: {len(set_aside)} of {total} rows have no answer, more than max_bad_share "
                f"{self.rules.max_bad_share}; the last, {last.row}: {last.outcome}: {last.reason}; "
                "what was answered is kept, run again or raise max_bad_share in prepare.yaml"
            )


def check_finished(choice: Choice) -> None:
    """Raise BadAnswerError for an answer that is cut, refused or filtered."""
    content = choice.message.content or ""
    if choice.message.refusal or choice.finish_reason == "refusal":
        raise BadAnswerError("refused", f"the model refused: {(choice.message.refusal or content)[:200]}", content)
    if choice.finish_reason == "content_filter":
        raise BadAnswerError("filtered", "the server's content filter stopped the answer", content)
    if choice.finish_reason == "length":
        outcome: Outcome = "endless_blanks" if content and not content[-100:].strip() else "length"
        raise BadAnswerError(outcome, "the answer has no end within max_tokens", content)
