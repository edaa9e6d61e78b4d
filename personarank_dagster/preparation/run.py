"""A first try: so many items and users of a dataset, from its files to files that can be looked at."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from personarank_dagster.configuration.dataset import DatasetConfig
from personarank_dagster.core.errors import ConfigError
from personarank_dagster.preparation.client.kept_answers import KeptAnswers
from personarank_dagster.preparation.pipeline import Preparation, Prepared, scope_of, split_of
from personarank_dagster.preparation.prepared_files import write_prepared
from personarank_dagster.preparation.questions import Question
from personarank_dagster.preparation.stage_runs import Means, OnProgress, StageReport, ask_stage, prepare_config
from personarank_dagster.raw.downloads import read_downloaded_items, read_downloaded_reviews
from personarank_dagster.raw.files import RawFiles


@dataclass(frozen=True)
class Report:
    """What a preparation did."""

    stages: list[StageReport]
    counts: dict[str, int]
    spent: tuple[int, float]
    files: list[Path] = field(default_factory=list)


@dataclass(frozen=True)
class Source:
    """A dataset with raw reviews, and how much of it is prepared."""

    dataset: DatasetConfig
    num_items: int | None = None
    num_users: int | None = None

    @property
    def means(self) -> Means:
        """How it asks."""
        return Means.of(self.dataset)

    @property
    def folder(self) -> Path:
        """Where the files of a first try are written; nothing else reads them."""
        return self.dataset.data.out_root / "preparation" / "first_try"


def prepare(source: Source, *, on_progress: OnProgress = lambda progress: None) -> Report:
    """Ask what was not answered yet, and write files under the public names.

    Raises ConfigError for a server that refuses or a spent budget, InputError for files or answers that break rules.
    """
    preparation, stages = preparation_of(source), []

    def ask(stage: str, questions: Sequence[Question]) -> dict[str, Any]:
        held_out = preparation.split.held_out
        answers, report = ask_stage(source.means, stage, questions, held_out, on_progress=on_progress)
        stages.append(report)
        return answers

    prepared = preparation.tables(ask)
    files = write_prepared(prepared, source.folder, source.dataset.data.schema)
    with KeptAnswers(source.means.answers_path) as kept:
        return Report(stages, counts_of(prepared), kept.spent(), files)


def preparation_of(source: Source) -> Preparation:
    """The preparation of so much of a dataset, by its files as they are now."""
    data, config = source.dataset.data, prepare_config(source.dataset)
    if data.raw_reviews is None or data.raw_items is None:
        raise ConfigError(f"{source.dataset.data_path}: raw_reviews is not set, so there is nothing to prepare")
    rules = RawFiles(data).rules
    split = split_of(read_downloaded_reviews(data.raw_reviews, rules).frame, config)
    scope = scope_of(split, num_items=source.num_items, num_users=source.num_users)
    return Preparation(config, data.schema, split, scope, read_downloaded_items(data.raw_items, rules).frame)


def counts_of(prepared: Prepared) -> dict[str, int]:
    """How many there are of what."""
    split, training = prepared.split, prepared.split.training.table
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
