"""What the terminal shows of a preparation: progress, what was asked, what it cost."""

import time
from pathlib import Path

import polars as pl
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from personarank_dagster.command_line.console import run_one
from personarank_dagster.command_line.terminal import console, errors, new_table, screen_width, show_table
from personarank_dagster.configuration.dataset import DatasetConfig
from personarank_dagster.core.errors import ConfigError
from personarank_dagster.definitions import project
from personarank_dagster.defs.platform.resources import WIDE
from personarank_dagster.defs.preparation.questions import SOURCES
from personarank_dagster.preparation import stage_runs
from personarank_dagster.preparation.client.kept_answers import KeptAnswers
from personarank_dagster.preparation.estimates import Estimate, StageEstimate, estimate
from personarank_dagster.preparation.pipeline import Prepared, Scope
from personarank_dagster.preparation.prepared_files import write_prepared
from personarank_dagster.preparation.reviews.split import split_of_table
from personarank_dagster.preparation.run import Report, Source, prepare
from personarank_dagster.preparation.stage_runs import Means, Spent, prepare_config


def prepare_and_report(name: str, *, dry_run: bool, num_items: int | None, num_users: int | None) -> bool:
    """Prepare a dataset, or try it on a part, or say what either would ask and cost. False if it failed.

    All of it is a run of the assets of the preparation; a part of it writes files for a person to look at.
    """
    source = Source(project.dataset(name), num_items, num_users)
    prepare_config(source.dataset)
    if dry_run:
        _show_estimate(source, estimate(source))
        return True
    if num_items or num_users:
        _show_report(prepare_with_progress(source))
        return True
    succeeded = run_one(name, select='group:"preparation"')
    _show_account(source.means)
    return succeeded


def export_prepared(name: str, out: Path) -> list[Path]:
    """Write what was prepared of a dataset under the public names. Raises ConfigError where that is not made yet."""
    dataset = project.dataset(name)
    prepare_config(dataset)
    tables = {
        asset: _current_table(dataset, asset)
        for asset in ("split", "item_summaries", "review_aspects", "item_personas", "persona_selections")
    }
    split = split_of_table(tables["split"])
    training = split.training.table
    prepared = Prepared(
        split,
        Scope(frozenset(training["item_id"]), frozenset(training["user_id"])),
        tables["item_summaries"],
        tables["review_aspects"],
        tables["item_personas"],
        tables["persona_selections"],
    )
    return write_prepared(prepared, out, dataset.data.schema)


def _current_table(dataset: DatasetConfig, asset: str) -> pl.DataFrame:
    outputs = project.outputs(dataset.name)
    version = outputs.versions(asset).find_current()
    if version is None:
        raise ConfigError(f"{asset} ({dataset.name}): never made; run personarank prepare --partition {dataset.name}")
    table: pl.DataFrame = outputs.format(asset).read(version.directory)
    return table


def prepare_with_progress(source: Source) -> Report:
    """Prepare a part of a dataset, with a bar for each stage."""
    spent = [TextColumn("{task.fields[spent]}")] if screen_width() >= WIDE else []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, *spent, console=errors) as progress:
        tasks, begun = {}, {}

        def show(now: stage_runs.Progress) -> None:
            if now.stage not in tasks:
                tasks[now.stage] = progress.add_task(now.stage, total=now.total, spent="")
                begun[now.stage] = time.monotonic()
            seconds = max(time.monotonic() - begun[now.stage], 1e-6)
            progress.update(tasks[now.stage], completed=now.done, spent=_spent(now.spent, seconds))

        return prepare(source, on_progress=show)


def _spent(spent: Spent, seconds: float) -> str:
    tokens = spent.tokens_in + spent.tokens_out
    return f"{spent.calls / seconds:.1f} calls/s · {tokens / seconds:,.0f} tokens/s · ${spent.usd:.4f}"


def _show_report(report: Report) -> None:
    table = new_table("stage", ">questions", ">kept", "asked", ">set aside")
    for stage in report.stages:
        asked = ", ".join(f"{count} {name}" for name, count in stage.outcomes.items()) or "none"
        table.add_row(stage.stage, f"{stage.questions:,}", f"{stage.kept:,}", asked, f"{stage.set_aside:,}")
    show_table(table)
    console.print(", ".join(f"{name}: {count:,}" for name, count in report.counts.items()))
    console.print(f"spent in all: {report.spent[0]:,} tokens, ${report.spent[1]:.4f}")
    for path in report.files:
        console.print(f"  {path}")


def _show_account(means: Means) -> None:
    """What each stage ever took."""
    if not means.answers_path.exists():
        return
    with KeptAnswers(means.answers_path) as kept:
        account = {stage: Spent.of(numbers) for stage, numbers in kept.account().items()}
    table = new_table(
        "stage", ">calls", ">failed attempts", ">tokens in", ">tokens out", ">price", title="asked in all"
    )
    for stage in sorted(account, key=[*SOURCES, *account].index):
        spent = account[stage]
        numbers = (spent.calls, spent.failed_attempts, spent.tokens_in, spent.tokens_out)
        table.add_row(stage, *(f"{number:,}" for number in numbers), f"${spent.usd:.4f}")
    show_table(table)


def _show_estimate(source: Source, report: Estimate) -> None:
    table = new_table("stage", ">calls", ">of which kept", ">tokens in", ">tokens out", ">price", ">time")
    for stage in report.stages:
        table.add_row(stage.stage, f"{stage.questions:,}", f"{stage.kept:,}", *_costs(source, [stage]))
    table.add_row("all", "", "", *_costs(source, report.stages))
    show_table(table)
    tokens = "four bytes a token" if source.means.config.tokenizer is None else "prompts by the tokenizer"
    console.print(f"estimates: {tokens}, answers of the usual length; failed attempts come on top")
    if source.means.config.tokens_per_second is None:
        console.print("time: tokens_per_second in prepare.yaml says how many tokens the server writes in a second")
    console.print(f"spent so far: {report.spent[0]:,} tokens, ${report.spent[1]:.4f}")


def _costs(source: Source, stages: list[StageEstimate]) -> list[str]:
    """Tokens, price and time of some stages."""
    tokens_in, tokens_out = (sum(getattr(stage, name) for stage in stages) for name in ("tokens_in", "tokens_out"))
    rate = source.means.config.tokens_per_second
    seconds = f"{tokens_out / rate:,.0f} s" if rate else "?"
    return [f"{tokens_in:,}", f"{tokens_out:,}", f"${source.means.tariff.usd(tokens_in, tokens_out):.4f}", seconds]
