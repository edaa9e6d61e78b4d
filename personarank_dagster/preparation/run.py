"""The preparation of one dataset, from its files to its files."""

import asyncio
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from personarank_dagster.configuration.dataset import DatasetConfig
from personarank_dagster.configuration.prepare_settings import PrepareConfig
from personarank_dagster.core.errors import ConfigError
from personarank_dagster.preparation.asking import Answers, Asker, Rules
from personarank_dagster.preparation.kept_answers import KeptAnswers, Tariff
from personarank_dagster.preparation.pace import Pace
from personarank_dagster.preparation.pipeline import Preparation, Prepared, scope_of, split_of
from personarank_dagster.preparation.prepared_files import write_prepared
from personarank_dagster.preparation.prompt_files import load_prompts
from personarank_dagster.preparation.questions import BadAnswerError, Question, checked
from personarank_dagster.preparation.server import Server, headers
from personarank_dagster.raw.bad_lines import write_quarantine
from personarank_dagster.raw.downloads import read_downloaded_items, read_downloaded_reviews
from personarank_dagster.raw.files import RawFiles

# Done, of how many, of which stage, tokens and dollars so far.
Progress = Callable[[str, int, int, tuple[int, float]], None]

# Tokens of a usual answer, for an estimate.
USUAL_ANSWERS = {"item_summaries": 120, "review_aspects": 150, "item_personas": 600, "persona_selections": 60}


@dataclass(frozen=True)
class StageReport:
    """What one stage asked: questions, how many were answered before, and what became of the others."""

    stage: str
    questions: int
    kept: int
    outcomes: dict[str, int] = field(default_factory=dict)
    set_aside: int = 0
    tokens_in: int = 0
    tokens_out: int = 0


@dataclass(frozen=True)
class Report:
    """What a preparation did, or would do: `files` are written unless it only looked."""

    stages: list[StageReport]
    counts: dict[str, int]
    spent: tuple[int, float]
    account: dict[str, dict[str, float]]
    files: list[Path] = field(default_factory=list)


@dataclass(frozen=True)
class Source:
    """A dataset with raw reviews, and how it is prepared."""

    dataset: DatasetConfig
    config: PrepareConfig
    num_items: int | None = None
    num_users: int | None = None

    @property
    def answers_path(self) -> Path:
        """The store of its answers; it can be deleted, and is then paid for again."""
        return self.dataset.data.out_root / "preparation" / "answers.sqlite"

    @property
    def rules(self) -> Rules:
        """What belongs to an answer, and what may go wrong."""
        names = ("base_url", "model", "temperature", "max_tokens", "seed", "repairs", "max_bad_share")
        return Rules(**{name: getattr(self.config, name) for name in names}, workers=self.config.concurrency)

    @property
    def tariff(self) -> Tariff:
        """Prices and budgets."""
        names = ("price_in", "price_out", "budget_tokens", "budget_usd")
        return Tariff(**{name: getattr(self.config, name) for name in names})


def prepare(source: Source, *, on_progress: Progress = lambda *_: None) -> Report:
    """Ask what was not answered yet, and write the prepared files.

    Raises ConfigError for a server that refuses or a spent budget, InputError for files or answers that break rules.
    """
    secret = headers(os.environ, source.config.api_key_env)
    return asyncio.run(_prepare(source, secret, on_progress))


async def _prepare(source: Source, secret: dict[str, str], on_progress: Progress) -> Report:
    config = source.config
    client = httpx.AsyncClient(
        base_url=f"{config.base_url.rstrip('/')}/",
        headers=secret,
        timeout=httpx.Timeout(config.timeout_seconds),
        limits=httpx.Limits(max_connections=config.concurrency),
    )
    with KeptAnswers(source.answers_path) as kept:
        async with client:
            server = Server(
                client,
                model=config.model,
                kept=kept,
                tariff=source.tariff,
                pace=Pace(config.concurrency),
                retries=config.retries,
                temperature=config.temperature,
            )
            stages: list[StageReport] = []
            asker = Asker(server, source.rules)

            async def ask(questions: Sequence[Question]) -> dict[str, Any]:
                stage = questions[0].stage if questions else "nothing"
                answers = await asker.ask(
                    questions, on_answer=lambda done, total: on_progress(stage, done, total, kept.spent())
                )
                stages.append(_reported(stage, questions, answers))
                _set_aside(source, stage, answers)
                return answers.by_row

            prepared = await _preparation(source, ask).run()
        files = write_prepared(prepared, source.dataset.data.out_root / "prepared", source.dataset.data.schema)
        account = {stage: dict(numbers) for stage, numbers in kept.account().items()}
        return Report(stages, _counts(prepared), kept.spent(), account, files)


def estimate(source: Source) -> Report:
    """What a preparation would ask, without asking: answers that are kept count, others are guessed at."""
    stages: list[StageReport] = []
    with KeptAnswers(source.answers_path) as kept:

        async def look(questions: Sequence[Question]) -> dict[str, Any]:
            found = {question.row: _kept_answer(kept, source.rules, question) for question in questions}
            new = [question for question in questions if found[question.row] is None]
            stage = questions[0].stage if questions else "nothing"
            stages.append(
                StageReport(
                    stage,
                    questions=len(questions),
                    kept=len(questions) - len(new),
                    tokens_in=sum(question.estimated_tokens for question in new),
                    tokens_out=len(new) * USUAL_ANSWERS.get(stage, 0),
                )
            )
            return {
                question.row: _guess(question) if found[question.row] is None else found[question.row]
                for question in questions
            }

        prepared = asyncio.run(_preparation(source, look).run())
        return Report(stages, _counts(prepared), kept.spent(), {})


def _kept_answer(kept: KeptAnswers, rules: Rules, question: Question) -> Any:
    content = kept.get(rules.key(question))
    try:
        return None if content is None else checked(question, content)
    except BadAnswerError:
        return None


def _guess(question: Question) -> Any:
    """An answer of the usual length, for the sizes of what follows from it."""
    if question.stage == "item_summaries":
        return "s" * 400
    if question.stage == "review_aspects":
        return dict.fromkeys(question.answer_schema["required"], "a" * 40)
    if question.stage == "item_personas":
        least = question.answer_schema["properties"]["personas"]["minItems"]
        text = {"name": "n" * 20, "description": "d" * 200, "preference_rationale": "r" * 300, "evidence": ["R1"]}
        return [text] * least
    return {"persona": {"item_id": "", "unique_persona_id": "", "name": ""}, "reason": "", "offered_as": ""}


def _preparation(source: Source, ask: Callable[[Sequence[Question]], Any]) -> Preparation:
    data = source.dataset.data
    if data.raw_reviews is None or data.raw_items is None:
        raise ConfigError(f"{source.dataset.data_path}: raw_reviews is not set, so there is nothing to prepare")
    rules = RawFiles(data).rules
    reviews = read_downloaded_reviews(data.raw_reviews, rules)
    items = read_downloaded_items(data.raw_items, rules)
    write_quarantine([*reviews.bad_lines, *items.bad_lines], data.out_root / "quarantine" / "raw_reviews.jsonl")
    split = split_of(reviews.frame, source.config)
    return Preparation(
        config=source.config,
        schema=data.schema,
        items=items.frame,
        split=split,
        scope=scope_of(split, num_items=source.num_items, num_users=source.num_users),
        prompts=load_prompts(source.config.prompts),
        ask=ask,
    )


def _reported(stage: str, questions: Sequence[Question], answers: Answers) -> StageReport:
    kept = answers.outcomes["kept"]
    outcomes = {name: count for name, count in sorted(answers.outcomes.items()) if name != "kept"}
    return StageReport(stage, len(questions), kept, outcomes, len(answers.set_aside))


def _set_aside(source: Source, stage: str, answers: Answers) -> None:
    """Write rows without an answer, with what the model wrote; without any, the file goes."""
    path = source.dataset.data.out_root / "quarantine" / f"preparation_{stage}.jsonl"
    if not answers.set_aside:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (
        {"row": one.row, "outcome": one.outcome, "reason": one.reason, "answer": one.raw} for one in answers.set_aside
    )
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="ascii")


def _counts(prepared: Prepared) -> dict[str, int]:
    split = prepared.split
    training = split.training.table
    return {
        "training reviews": training.height,
        "training reviews without text": training.filter(training["text"].is_null()).height,
        "held-out reviews": split.held_out.table.height,
        "copies of held-out texts": split.blanked,
        **split.left_out,
        "items": prepared.summaries.height,
        "personas": prepared.personas.height,
        "users with a selection": prepared.selections.height,
        "users with a ground truth": split.ground_truth["user_id"].n_unique(),
    }
