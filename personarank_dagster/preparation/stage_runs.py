"""One stage asked of the server of a dataset: what is kept is not asked again, and all is on the account."""

import asyncio
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from personarank_dagster.configuration.dataset import DatasetConfig
from personarank_dagster.configuration.prepare_settings import PrepareConfig
from personarank_dagster.core.errors import ConfigError
from personarank_dagster.preparation.batches.asking import Batches
from personarank_dagster.preparation.client.asking import Answers, Asker, Rules
from personarank_dagster.preparation.client.kept_answers import KeptAnswers, Tariff
from personarank_dagster.preparation.client.pace import Pace
from personarank_dagster.preparation.client.server import Server, headers
from personarank_dagster.preparation.client.token_counts import token_count
from personarank_dagster.preparation.questions import Question
from personarank_dagster.preparation.reviews.evidence import refuse_held_out
from personarank_dagster.preparation.reviews.split import HeldOutReviews

# Between two looks at the account, which sums over all calls.
PROGRESS_SECONDS = 0.5


@dataclass(frozen=True)
class Spent:
    """Calls of a stage, those among them without a good answer, tokens and dollars."""

    calls: int = 0
    failed_attempts: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    usd: float = 0.0

    @classmethod
    def of(cls, account: Mapping[str, float]) -> "Spent":
        """What the account of a stage says."""
        calls = int(account.get("calls", 0))
        failed = calls - int(account.get("answers", 0))
        tokens = int(account.get("tokens_in", 0)), int(account.get("tokens_out", 0))
        return cls(calls, failed, *tokens, float(account.get("usd", 0.0)))

    def since(self, before: "Spent") -> "Spent":
        """The difference."""
        return Spent(
            self.calls - before.calls,
            self.failed_attempts - before.failed_attempts,
            self.tokens_in - before.tokens_in,
            self.tokens_out - before.tokens_out,
            self.usd - before.usd,
        )


@dataclass(frozen=True)
class StageReport:
    """What one stage asked: questions, how many were answered before, what became of the others, what it cost.

    `left_out_of_row` are reviews that did not fit into the prompt of a row, where there are any.
    """

    stage: str
    questions: int
    kept: int
    outcomes: dict[str, int] = field(default_factory=dict)
    set_aside: int = 0
    left_out_of_row: Mapping[str, int] = field(default_factory=dict)
    cut: int = 0
    spent: Spent = Spent()
    spent_in_all: Spent = Spent()


@dataclass(frozen=True)
class Progress:
    """How far a stage is, and what was spent by it until now."""

    stage: str
    done: int
    total: int
    spent: Spent


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class Means:
    """How a dataset asks: its settings in parts, and where its answers are kept."""

    config: PrepareConfig
    folder: Path

    @classmethod
    def of(cls, dataset: DatasetConfig) -> "Means":
        """Those of a dataset. Raises ConfigError where it has no raw reviews."""
        return cls(prepare_config(dataset), dataset.data.out_root)

    @property
    def answers_path(self) -> Path:
        """The store of its answers; it can be deleted, and is then paid for again."""
        return self.folder / "preparation" / "answers.sqlite"

    @property
    def rules(self) -> Rules:
        """What belongs to an answer, and what may go wrong."""
        names = ("base_url", "model", "temperature", "max_tokens", "seed", "request", "repairs", "max_bad_share")
        own = {name: getattr(self.config, name) for name in names}
        return Rules(**own, workers=self.config.concurrency, tokens=token_count(self.config.tokenizer))

    @property
    def tariff(self) -> Tariff:
        """Prices and budgets."""
        names = ("price_in", "price_out", "budget_tokens", "budget_usd")
        return Tariff(**{name: getattr(self.config, name) for name in names})

    def quarantine(self, stage: str) -> Path:
        """Where rows without an answer are set aside."""
        return self.folder / "quarantine" / f"preparation_{stage}.jsonl"


def prepare_config(dataset: DatasetConfig) -> PrepareConfig:
    """What prepare.yaml says. Raises ConfigError for a dataset without raw reviews."""
    if dataset.prepare is None:
        raise ConfigError(f"{dataset.data_path}: raw_reviews is not set, so there is nothing to prepare")
    return dataset.prepare


def ask_stage(
    means: Means,
    stage: str,
    questions: Sequence[Question],
    held_out: HeldOutReviews,
    *,
    on_progress: OnProgress = lambda progress: None,
) -> tuple[dict[str, Any], StageReport]:
    """Answers by row, and the report.

    Raises ContractError if a question holds what is held out, ConfigError for a server that refuses or a spent
    budget, InputError if too many rows have no answer. Rows without one are set aside, with what the model wrote.
    """
    refuse_held_out(questions, held_out, mask=means.config.mask_contacts)
    secret = headers(os.environ, means.config.api_key_env)
    with KeptAnswers(means.answers_path) as kept:
        before = Spent.of(kept.account().get(stage, {}))

        def spent() -> Spent:
            return Spent.of(kept.account().get(stage, {})).since(before)

        said = float("-inf")

        def on_answer(done: int, total: int) -> None:
            nonlocal said
            if done == total or time.monotonic() - said >= PROGRESS_SECONDS:
                said = time.monotonic()
                on_progress(Progress(stage, done, total, spent()))

        answers = asyncio.run(_ask(means, kept, stage, questions, secret, on_answer))
        _set_aside(means.quarantine(stage), answers)
        return answers.by_row, _reported(stage, questions, answers, spent(), Spent.of(kept.account().get(stage, {})))


async def _ask(
    means: Means,
    kept: KeptAnswers,
    stage: str,
    questions: Sequence[Question],
    secret: Mapping[str, str],
    on_answer: Callable[[int, int], None],
) -> Answers:
    config = means.config
    client = httpx.AsyncClient(
        base_url=f"{config.base_url.rstrip('/')}/",
        headers=secret,
        timeout=httpx.Timeout(config.timeout_seconds),
        limits=httpx.Limits(max_connections=config.concurrency),
    )
    async with client:
        server = Server(
            client,
            model=config.model,
            kept=kept,
            tariff=means.tariff,
            pace=Pace(config.concurrency),
            retries=config.retries,
            temperature=config.temperature,
            parameters=config.request,
        )
        batched = await Batches(server, means.rules, stage).ask(questions) if config.batch else 0
        answers = await Asker(server, means.rules).ask(questions, on_answer=on_answer)
        answers.outcomes.update({"answered in a batch": batched, "kept": -batched} if batched else {})
        return answers


def _reported(
    stage: str, questions: Sequence[Question], answers: Answers, spent: Spent, in_all: Spent
) -> StageReport:
    return StageReport(
        stage,
        questions=len(questions),
        kept=answers.outcomes["kept"],
        outcomes={name: count for name, count in sorted(answers.outcomes.items()) if name != "kept"},
        set_aside=len(answers.set_aside),
        left_out_of_row={question.row: question.left_out for question in questions if question.left_out},
        cut=sum(question.cut for question in questions),
        spent=spent,
        spent_in_all=in_all,
    )


def _set_aside(path: Path, answers: Answers) -> None:
    """Write rows without an answer, with what the model wrote; without any, the file goes."""
    if not answers.set_aside:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (
        {"row": one.row, "outcome": one.outcome, "reason": one.reason, "answer": one.raw} for one in answers.set_aside
    )
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="ascii")
