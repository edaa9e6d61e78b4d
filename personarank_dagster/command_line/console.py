"""What the command line shows: plans, progress, tables, where the outputs are."""

import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from itertools import groupby
from typing import Any, Literal

import dagster as dg
from rich.markup import escape

from personarank_dagster.command_line.instances import shown_by
from personarank_dagster.command_line.reports.run_results import COLORS, show_check_results, show_metric_table
from personarank_dagster.command_line.terminal import console, errors, screen_width, show_error, show_warning
from personarank_dagster.configuration.dataset import listed
from personarank_dagster.configuration.public_scripts import passed_over
from personarank_dagster.core.errors import ConfigError, PersonarankError, UsageError, near
from personarank_dagster.definitions import defs, project
from personarank_dagster.defs.automation.instances import open_instance
from personarank_dagster.defs.automation.runs import (
    Outcome,
    Plan,
    check_selection,
    end_dead_runs,
    execute,
    observe_raw_files,
    plan_run,
)
from personarank_dagster.defs.automation.schedules import schedule_problem
from personarank_dagster.defs.inputs.checks import ALL_CHECKS, CHECK_NAMES, Evaluation, evaluate
from personarank_dagster.defs.platform.declarations import asset_names
from personarank_dagster.defs.platform.partitions import UNPARTITIONED
from personarank_dagster.defs.platform.published_checks import newest

# Of the datasets of a run.
SHOWN_PLACES = 20

# Characters of a line for the result of a check and the numbers behind it.
WIDTH_BESIDE_NAMES = 60

# Results of checks, as they are counted.
WORDS: dict[Literal["pass", "warn", "fail", "not checked"], str] = {
    "pass": "passed",
    "warn": "warned",
    "fail": "failed",
    "not checked": "not checked",
}


def run_and_report(partitions: tuple[str, ...], *, select: str | None, force: bool) -> bool:
    """Materialise the partitions and then the report; say what happened. False if anything failed."""
    names = resolve(partitions)
    check_selection(defs, project.mount, select)
    _show_remarks(names)
    _show_root(names)
    with open_instance() as instance:
        _end_dead_runs(instance)
        failed = [name for name in [*names, UNPARTITIONED] if not _succeeds(name, instance, select, force)]
    for name in names:
        if name in failed:
            _show_what_is_kept(name)
        else:
            _show_metrics(name)
            _show_outputs(name)
    return not failed


def run_one(name: str, *, select: str) -> bool:
    """Materialise a part of one dataset. False if anything failed."""
    resolve((name,))
    _show_remarks([name])
    _show_root([name])
    with open_instance() as instance:
        _end_dead_runs(instance)
        return _succeeds(name, instance, select, False)


def _succeeds(name: str, instance: dg.DagsterInstance, select: str | None, force: bool) -> bool:
    """Run one partition; what is wrong with it is said, and costs no other."""
    try:
        if name != UNPARTITIONED:
            project.outputs(name).check_writable()
        outcome = _run(name, instance, select=select, force=force)
        if name != UNPARTITIONED:
            project.outputs(name).refresh_links()
    except PersonarankError as error:
        show_error(error)
        return False
    return not outcome.failures


def _show_what_is_kept(name: str) -> None:
    """Where it is that a run failed over, unless that cannot be read."""
    with suppress(PersonarankError):
        if any(project.versions(asset, name).find_current() for asset in asset_names(partitioned=True)):
            console.print(f"{name}: failed; what is published in {_place(name)} is whole, and stays")
        else:
            console.print(f"{name}: failed; nothing of it is published yet")


def _place(name: str) -> str:
    dataset = project.dataset(name)
    return dataset.bucket or str(dataset.data.out_root)


def _show_root(names: list[str]) -> None:
    """Where the outputs go, and how to see the runs where they are not in the project's instance."""
    places: list[str] = []
    for name in names[:SHOWN_PLACES]:
        with suppress(ConfigError):
            places.append(_place(name))
    more = f", … ({len(names):,} datasets)" if len(names) > SHOWN_PLACES else ""
    if places:
        console.print(f"outputs: {escape(', '.join(places))}{more}")
    if command := shown_by():
        console.print(f"its runs are in an instance of its own: {escape(command)}")


def _show_remarks(names: list[str]) -> None:
    """What of the files of the datasets does not count, or costs a schedule alone."""
    for name in names:
        with suppress(ConfigError):
            for line in (
                *passed_over(project.mount.datasets_folder / name),
                *schedule_problem(project.mount, name).splitlines(),
            ):
                show_warning(line)


def _end_dead_runs(instance: dg.DagsterInstance) -> None:
    for run_id in end_dead_runs(instance):
        console.print(f"run {run_id[:8]} was killed; it counts as failed now, and what it held is free")


def validate_and_report(partitions: tuple[str, ...], *, strict: bool, as_json: bool) -> int:
    """Ingest and check the data of the partitions; exit code 0, 1 for errors, 2 for warnings where `strict`."""
    names = resolve(partitions)
    _show_remarks(names)
    inputs = ",".join(dict.fromkeys(check.asset for check in ALL_CHECKS))
    with open_instance() as instance:
        _end_dead_runs(instance)
        outcomes = {name: _validated(name, instance, inputs, quiet=as_json) for name in names}
    found = {name: _evaluations(name) for name, outcome in outcomes.items() if outcome}
    if as_json:
        console.print_json(data={name: [_as_json(one) for one in evaluations] for name, evaluations in found.items()})
    else:
        for name, evaluations in found.items():
            _show_checks(name, evaluations)
    failed = [one for evaluations in found.values() for one in evaluations if not one.passed]
    if any(outcome is None or outcome.failures for outcome in outcomes.values()) or any(
        one.is_error for one in failed
    ):
        return 1
    return 2 if strict and failed else 0


def _validated(name: str, instance: dg.DagsterInstance, inputs: str, *, quiet: bool) -> Outcome | None:
    """The outcome of reading a dataset's files; None, and the reason is said, if it cannot be read as configured."""
    try:
        return _execute(plan_run(defs, project, name, select=inputs), instance, quiet=quiet)
    except PersonarankError as error:
        show_error(error)
        return None


def _evaluations(name: str) -> list[Evaluation]:
    published = newest(project, name)
    return [evaluate(published, check) for check in CHECK_NAMES]


def _as_json(one: Evaluation) -> dict[str, Any]:
    return {"check": one.check.name, "asset": one.check.asset, "result": one.result, **one.metadata}


def _show_checks(name: str, evaluations: list[Evaluation]) -> None:
    console.print(f"[bold]{name} · data checks[/bold]")
    longest = max(len(one.check.name) for one in evaluations)
    # Numbers stand below each other where the screen has room for them beside the names.
    width = longest if screen_width() >= longest + WIDTH_BESIDE_NAMES else 0
    for asset, of_asset in groupby(evaluations, key=lambda one: one.check.asset):
        console.print(f"[bold]{asset}[/bold]")
        for one in of_asset:
            result = f"[{COLORS[one.result]}]{one.result:<12}[/]"
            console.print(f"  {result}{one.check.name:<{width}}  {escape(one.summary)}")
    counts = Counter(one.result for one in evaluations)
    told = ", ".join(f"{count} {WORDS[result]}" for result in WORDS if (count := counts[result]))
    console.print(f"{name}: of {len(evaluations)} checks {told}")


def resolve(partitions: tuple[str, ...]) -> list[str]:
    """Names of the chosen partitions, all of them for none. Raises UsageError for an unknown one."""
    known = project.mount.datasets
    names = known if not partitions or "all" in partitions else list(dict.fromkeys(partitions))
    if unknown := [name for name in partitions if name not in (*known, "all")]:
        raise UsageError(
            f"unknown partition {', '.join(unknown)}; {near(unknown[0], known)}the datasets are {listed(known)}"
        )
    return names


def _run(partition: str, instance: dg.DagsterInstance, *, select: str | None, force: bool) -> Outcome:
    plan = plan_run(defs, project, partition, select=select, force=force)
    if not plan.reasons and partition != UNPARTITIONED:
        console.print(_nothing_to_do(plan))
    outcome = _execute(plan, instance)
    show_check_results(_title(partition), outcome.checks)
    return outcome


def _nothing_to_do(plan: Plan) -> str:
    """Why a run has nothing to make; only what was made once can be up to date."""
    if any(project.versions(asset, plan.partition).find_current() for asset in plan.selected):
        return f"{plan.partition}: up to date, nothing to do (--force materialises it anyway)"
    return f"{plan.partition}: nothing to do, for the dataset has none of the selected assets"


def _execute(plan: Plan, instance: dg.DagsterInstance, *, quiet: bool = False) -> Outcome:
    """Make what is planned, with a line for each asset where no bars are drawn; say what failed, and warnings."""
    started, title = time.monotonic(), _title(plan.partition)
    if plan.partition != UNPARTITIONED and plan.reasons:
        observe_raw_files(project, plan.partition, instance)
    if not quiet:
        _show_plan(plan)
    lines = None if quiet or errors.is_terminal else _lines_of_assets(plan, started)
    outcome = execute(defs, plan, instance, progress_bars=errors.is_terminal, on_asset=lines)
    for message in dict.fromkeys(outcome.failures.values()):
        steps = ", ".join(step for step, failure in outcome.failures.items() if failure == message)
        errors.print(f"[red]{title} · {steps} failed:[/red] {escape(message)}")
    for warning in outcome.warnings:
        errors.print(f"[yellow]{escape(warning)}[/yellow]")
    if outcome.run_id and not outcome.failures and not quiet:
        console.print(f"{title}: done in {time.monotonic() - started:.0f} s")
    return outcome


def _lines_of_assets(plan: Plan, started: float) -> Callable[[str], None]:
    begun_assets: set[str] = set()

    def begun(asset: str) -> None:
        begun_assets.add(asset)
        progress = f"{len(begun_assets)}/{len(plan.reasons)}"
        console.print(f"{_title(plan.partition)}: {progress} {asset}, after {time.monotonic() - started:.0f} s")

    return begun


def _show_plan(plan: Plan) -> None:
    assets_by_reason: dict[str, list[str]] = {}
    for asset, reason in plan.reasons.items():
        assets_by_reason.setdefault(reason, []).append(asset)
    for reason, assets in assets_by_reason.items():
        console.print(f"{_title(plan.partition)}: {', '.join(assets)} [dim]({escape(reason)})[/dim]")


def _show_metrics(name: str) -> None:
    """The current metrics, if there are any."""
    version = project.versions("rerank_metrics", name).find_current()
    if version is not None:
        show_metric_table(name, project.outputs(name).format("rerank_metrics").read(version.directory))


def _show_outputs(name: str) -> None:
    out_root = project.dataset(name).data.out_root
    for path in ("rerank/reranked.jsonl", "rerank/metrics.json", "train"):
        if (out_root / path).exists():
            console.print(f"  {out_root / path}")


def _title(partition: str) -> str:
    return "all datasets" if partition == UNPARTITIONED else partition
