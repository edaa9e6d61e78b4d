"""A stage of the preparation as a step: asks, shows how far it is, and accounts for what was spent."""

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from personarank_dagster.defs.platform.resources import ProgressResource
from personarank_dagster.defs.platform.steps import Step
from personarank_dagster.defs.preparation.questions import Tables, stage_questions
from personarank_dagster.preparation.reviews.split import split_of_table
from personarank_dagster.preparation.stage_runs import Means, Progress, Spent, StageReport, ask_stage


def asked(step: Step, progress: ProgressResource, tables: Tables) -> tuple[dict[str, Any], StageReport]:
    """Answers by row to all questions of the step's stage, and the report."""
    stage = step.declaration.name
    questions = stage_questions(stage, step.config, tables)
    shown = _Shown()
    with progress.track(step.context, stage, len(questions), more=shown.numbers) as advance:

        def on_progress(now: Progress) -> None:
            advance(shown.update(now))

        held_out = split_of_table(tables["split"]).held_out
        return ask_stage(Means.of(step.config), stage, questions, held_out, on_progress=on_progress)


class _Shown:
    """What is shown of a stage while it asks."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._done, self._spent = 0, Spent()

    def update(self, now: Progress) -> int:
        """How many rows were done since the last update."""
        new, self._done, self._spent = now.done - self._done, now.done, now.spent
        return new

    def numbers(self) -> dict[str, float]:
        """Calls and tokens a second, and money so far; nothing where all was kept."""
        spent, seconds = self._spent, max(time.monotonic() - self._began, 1e-6)
        if not spent.calls:
            return {}
        tokens = spent.tokens_in + spent.tokens_out
        return {"calls/s": spent.calls / seconds, "tokens/s": tokens / seconds, "dollars": spent.usd}


def numbers_of(report: StageReport) -> dict[str, Any]:
    """Metadata: what was asked and used by this run and in all, and how it ended."""
    counts = {
        "questions": report.questions,
        "kept": report.kept,
        "set_aside": report.set_aside,
        "reviews_left_out_of_prompts": sum(report.left_out_of_row.values()),
        "rows_with_reviews_left_out": len(report.left_out_of_row),
        "texts_cut": report.cut,
    }
    in_all = {f"{name}_in_all": value for name, value in asdict(report.spent_in_all).items()}
    return counts | asdict(report.spent) | in_all | outcomes_of(report.outcomes)


def outcomes_of(outcomes: Mapping[str, int]) -> dict[str, int]:
    """How answers ended, by a name that tells them from other numbers."""
    return {f"outcome: {name}": count for name, count in outcomes.items()}
