"""What the terminal shows of a preparation: progress, what was asked, what it cost."""

import shutil
import time
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from personarank_dagster.configuration.dataset import config_dir, load_dataset, load_prepare
from personarank_dagster.configuration.prepare_settings import PREPARED_FILES
from personarank_dagster.core.errors import ConfigError
from personarank_dagster.preparation.run import Report, Source, estimate, prepare

console = Console(highlight=False, soft_wrap=True)


def source_of(name: str, *, num_items: int | None = None, num_users: int | None = None) -> Source | None:
    """The dataset, if it has raw reviews."""
    dataset = load_dataset(config_dir(), name)
    if dataset.data.raw_reviews is None:
        return None
    return Source(dataset, load_prepare(config_dir(), name), num_items, num_users)


def prepare_and_report(name: str, *, dry_run: bool, num_items: int | None, num_users: int | None) -> None:
    """Prepare a dataset, or say what that would ask and cost."""
    source = source_of(name, num_items=num_items, num_users=num_users)
    if source is None:
        raise ConfigError(
            f"{config_dir() / name / 'data.yaml'}: raw_reviews is not set, so there is nothing to prepare"
        )
    if dry_run:
        _show_estimate(source, estimate(source))
    else:
        _show_report(prepare_with_progress(source))


def export_prepared(name: str, out: Path) -> list[Path]:
    """Copy the prepared files of a dataset. Raises ConfigError where it was not prepared yet."""
    folder = load_dataset(config_dir(), name).data.out_root / "prepared"
    found = [folder / file for file in PREPARED_FILES.values()]
    if missing := [path for path in found if not path.is_file()]:
        raise ConfigError(f"{missing[0]}: is missing; run personarank prepare --partition {name} first")
    out.mkdir(parents=True, exist_ok=True)
    return [Path(shutil.copyfile(path, out / path.name)) for path in found]


def prepare_with_progress(source: Source) -> Report:
    """Prepare a dataset, with a bar for each stage."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[spent]}"), console=console) as progress:
        tasks, begun = {}, {}

        def show(stage: str, done: int, total: int, spent: tuple[int, float]) -> None:
            if stage not in tasks:
                tasks[stage], begun[stage] = progress.add_task(stage, total=total, spent=""), time.monotonic()
            rate = done / max(time.monotonic() - begun[stage], 1e-6)
            text = f"{rate:.1f}/s · {spent[0]:,} tokens · ${spent[1]:.4f}"
            progress.update(tasks[stage], completed=done, spent=text)

        return prepare(source, on_progress=show)


def _show_report(report: Report) -> None:
    table = Table("stage", "questions", "kept", "asked", "set aside", box=SIMPLE_HEAD)
    for stage in report.stages:
        asked = ", ".join(f"{count} {name}" for name, count in stage.outcomes.items()) or "none"
        table.add_row(stage.stage, f"{stage.questions:,}", f"{stage.kept:,}", asked, f"{stage.set_aside:,}")
    console.print(table)
    console.print(", ".join(f"{count:,} {name}" for name, count in report.counts.items()))
    console.print(f"spent in all: {report.spent[0]:,} tokens, ${report.spent[1]:.4f}")
    for path in report.files:
        console.print(f"  {path}")


def _show_estimate(source: Source, report: Report) -> None:
    table = Table("stage", "calls", "of which kept", "tokens in", "tokens out", "price", box=SIMPLE_HEAD)
    tariff = source.tariff
    for stage in report.stages:
        price = f"${tariff.usd(stage.tokens_in, stage.tokens_out):.4f}"
        numbers = (stage.questions, stage.kept, stage.tokens_in, stage.tokens_out)
        table.add_row(stage.stage, *(f"{number:,}" for number in numbers), price)
    tokens_in = sum(stage.tokens_in for stage in report.stages)
    tokens_out = sum(stage.tokens_out for stage in report.stages)
    total = f"${tariff.usd(tokens_in, tokens_out):.4f}"
    table.add_row("all", "", "", f"{tokens_in:,}", f"{tokens_out:,}", total)
    console.print(table)
    console.print("estimates: four bytes a token, answers of the usual length; failed attempts come on top")
    console.print(f"spent so far: {report.spent[0]:,} tokens, ${report.spent[1]:.4f}")
