"""What the command line shows: plans, progress, tables, where the outputs are."""

import time
from contextlib import suppress
from dataclasses import asdict
from itertools import groupby
from typing import Any

import dagster as dg
import polars as pl
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from personarank_dagster.configuration.dataset import config_dir, listed
from personarank_dagster.configuration.public_scripts import passed_over
from personarank_dagster.core.errors import ConfigError, PersonarankError
from personarank_dagster.definitions import defs, project
from personarank_dagster.defs.automation import upkeep
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
from personarank_dagster.defs.platform.partitions import UNPARTITIONED, dataset_partitions
from personarank_dagster.defs.platform.provenance import stale_reason
from personarank_dagster.defs.platform.published_checks import newest
from personarank_dagster.defs.platform.snapshots import take_snapshot
from personarank_dagster.ranking.metrics import METRIC_NAMES

console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)

# Of a line: no name that is copied into another command may be cut.
NO_LIMIT = 10_000

COLORS = {"pass": "green", "warn": "yellow", "fail": "red"}


def run_and_report(partitions: tuple[str, ...], *, select: str | None, force: bool) -> bool:
    """Materialise the partitions and then the report; say what happened. False if anything failed."""
    names = resolve(partitions)
    check_selection(defs, select)
    _show_remarks(names)
    with open_instance() as instance:
        _end_dead_runs(instance)
        failed = [name for name in [*names, UNPARTITIONED] if not _succeeds(name, instance, select, force)]
    for name in names:
        if name in failed:
            _show_last_good_result(name)
        else:
            _show_metrics(name)
            _show_outputs(name)
    return not failed


def run_one(name: str, *, select: str) -> bool:
    """Materialise a part of one dataset. False if anything failed."""
    resolve((name,))
    _show_remarks([name])
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
        _show_error(error)
        return False
    return not outcome.failures


def _show_error(error: PersonarankError) -> None:
    errors.print(f"[red]Error:[/] {escape(str(error))}")


def _show_last_good_result(name: str) -> None:
    """Where it is, unless that is what cannot be read."""
    with suppress(ConfigError):
        place = project.dataset(name).bucket or project.dataset(name).data.out_root
        console.print(f"{name}: failed; what is in {place} is the last good result")


def _show_remarks(names: list[str]) -> None:
    """What of the files of the datasets does not count, or costs a schedule alone."""
    for name in names:
        with suppress(ConfigError):
            for line in (*passed_over(config_dir() / name), *schedule_problem(name).splitlines()):
                errors.print(f"[yellow]warning:[/] {escape(line)}")


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
        return _run(name, instance, select=inputs, force=False, quiet=quiet)
    except PersonarankError as error:
        _show_error(error)
        return None


def _evaluations(name: str) -> list[Evaluation]:
    published = newest(project, name)
    return [evaluate(published, check) for check in CHECK_NAMES]


def show_versions(asset: str | None, partitions: tuple[str, ...], *, as_json: bool) -> None:
    """Print versions, oldest first."""
    _show_problems(partitions)
    found = upkeep.list_versions(upkeep.stores(project, asset, partitions))
    if as_json:
        console.print_json(data=[asdict(one) for one in found])
        return
    columns = ("asset", "partition", "version", "when (UTC)", "run", "rows", "bytes", "data version", "")
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in columns:
        # Names are copied into `rollback`, so they are never cut; a screen that is too narrow wraps the lines.
        table.add_column(column, no_wrap=True)
    for one in found:
        numbers = [f"{number:,}" if number is not None else "" for number in (one.rows, one.bytes)]
        wrong = one.problem or (one.refused and f"refused: {one.refused}")
        state = f"[red]{escape(wrong)}[/]" if wrong else "[green]current[/]" if one.current else ""
        table.add_row(
            one.asset, one.partition, one.version, one.created, one.run, *numbers, one.data_version[:8], state
        )
    if not found:
        console.print("no versions yet; `personarank run` makes them")
        return
    table.width = console.measure(table, options=console.options.update_width(NO_LIMIT)).maximum
    console.print(table, crop=False)


def _show_problems(partitions: tuple[str, ...] = ()) -> None:
    """Which datasets are passed over among all, and why; one that is asked for by its name is an error."""
    if not partitions or "all" in partitions:
        for problem in project.problems():
            errors.print(f"[yellow]warning:[/] passed over: {escape(problem)}")


def roll_back_and_report(asset: str, partition: str, version: str | None, *, force: bool, as_json: bool) -> None:
    """Roll back and say to what."""
    found = list(upkeep.stores(project, asset, (partition,)))
    if len(found) != 1:
        raise ConfigError(f"{asset} has no one partition {partition}; `personarank versions` lists them")
    store = found[0]
    with open_instance() as instance:
        chosen = upkeep.roll_back(project, store, version, instance, force=force)
    if as_json:
        console.print_json(data={"asset": asset, "partition": partition, "version": chosen.name})
        return
    console.print(f"{store.name}: version {chosen.name} of {chosen.manifest.created:%Y-%m-%d %H:%M} is current")
    if not chosen.manifest.accepted:
        refusal = chosen.manifest.refusal or "it was published by an earlier release, which did not judge versions"
        errors.print(f"[yellow]its checks did not accept it: {escape(refusal)}[/]")
    reason = stale_reason(project, take_snapshot(project, partition), asset)
    if reason:
        console.print(f"[yellow]the next run will make it anew: {reason}[/]")


def retire_and_report(*, keep: int | None, dry_run: bool, as_json: bool) -> None:
    """Retire old versions and say which."""
    _show_problems()
    found = upkeep.retire(project, keep=keep, dry_run=dry_run)
    if as_json:
        console.print_json(data=[asdict(one) for one in found])
        return
    for one in found:
        done = "in use, kept" if one.in_use else "would be removed" if dry_run else "removed"
        console.print(f"{one.asset} ({one.partition}) {one.version}: {done}, {one.bytes:,} bytes")
    freed = sum(one.bytes for one in found if not one.in_use)
    console.print(f"{freed:,} bytes {'would be ' if dry_run else ''}freed")


def verify_and_report(asset: str | None, partitions: tuple[str, ...], *, as_json: bool) -> bool:
    """Verify versions; False if one is damaged."""
    _show_problems(partitions)
    found = upkeep.verify(upkeep.stores(project, asset, partitions))
    damaged = [one for one in found if one.damage]
    if as_json:
        console.print_json(data=[asdict(one) for one in found])
        return not damaged
    for one in damaged:
        for problem in one.damage:
            console.print(f"[red]{one.asset} ({one.partition}) {one.version}:[/] {escape(problem)}")
    size = sum(one.bytes for one in found)
    console.print(f"{len(found)} versions, {size:,} bytes hashed: {len(damaged) or 'none'} damaged")
    if damaged:
        console.print("`personarank rollback` goes back to a whole version; `personarank run --force` makes it anew")
    return not damaged


def treat_and_report(*, as_json: bool) -> bool:
    """Put things right and say what; False if something is left for a person."""
    with open_instance() as instance:
        found = upkeep.treat(project, instance)
    if as_json:
        console.print_json(data=[asdict(one) for one in found])
    else:
        for one in found:
            console.print(f"{escape(one.what)} [{'red' if one.open else 'green'}]-> {escape(one.done)}[/]")
        console.print(f"found: {len(found)}, left for you: {sum(one.open for one in found)}")
    return not any(one.open for one in found)


def _as_json(one: Evaluation) -> dict[str, Any]:
    return {"check": one.check.name, "asset": one.check.asset, "result": one.result, **one.metadata}


def _show_checks(name: str, evaluations: list[Evaluation]) -> None:
    table = Table(title=f"{name} · data checks", title_justify="left", box=SIMPLE_HEAD, padding=0)
    table.add_column("result")
    table.add_column("check", overflow="fold")
    table.add_column("behind it", min_width=22)
    for asset, of_asset in groupby(evaluations, key=lambda one: one.check.asset):
        table.add_section()
        table.add_row("", f"[bold]{asset}[/bold]")
        for one in of_asset:
            table.add_row(f"[{COLORS[one.result]}]{one.result}[/]", one.check.name, one.summary)
    console.print(table)


def resolve(partitions: tuple[str, ...]) -> list[str]:
    """Names of the chosen partitions, all of them for none. Raises ConfigError for an unknown one."""
    known = list(dataset_partitions.get_partition_keys())
    names = known if not partitions or "all" in partitions else list(dict.fromkeys(partitions))
    if unknown := [name for name in partitions if name not in (*known, "all")]:
        raise ConfigError(f"unknown partition {', '.join(unknown)}; the datasets are {listed(known)}")
    return names


def _run(
    partition: str, instance: dg.DagsterInstance, *, select: str | None, force: bool, quiet: bool = False
) -> Outcome:
    plan = plan_run(defs, project, partition, select=select, force=force)
    if not quiet:
        _show_plan(plan)
    started = time.monotonic()
    if partition != UNPARTITIONED and plan.reasons:
        observe_raw_files(project, partition, instance)
    outcome = execute(defs, plan, instance, progress_bars=errors.is_terminal)
    for message in dict.fromkeys(outcome.failures.values()):
        steps = ", ".join(step for step, failure in outcome.failures.items() if failure == message)
        errors.print(f"[red]{_title(partition)} · {steps} failed:[/red] {escape(message)}")
    for warning in outcome.warnings:
        errors.print(f"[yellow]{escape(warning)}[/yellow]")
    if not quiet:
        _show_results(outcome)
    if outcome.run_id and not outcome.failures and not quiet:
        console.print(f"{_title(partition)}: done in {time.monotonic() - started:.0f} s")
    return outcome


def _show_plan(plan: Plan) -> None:
    if not plan.reasons:
        if plan.partition != UNPARTITIONED:
            console.print(f"{plan.partition}: up to date, nothing to do (--force materialises it anyway)")
        return
    assets_by_reason: dict[str, list[str]] = {}
    for asset, reason in plan.reasons.items():
        assets_by_reason.setdefault(reason, []).append(asset)
    for reason, assets in assets_by_reason.items():
        console.print(f"{_title(plan.partition)}: {', '.join(assets)} [dim]({reason})[/dim]")


def _show_results(outcome: Outcome) -> None:
    """How many checks of the run passed, and a line for each that did not."""
    others = [one for one in outcome.checks if one.result != "pass"]
    if outcome.checks:
        passed = len(outcome.checks) - len(others)
        console.print(f"{_title(outcome.plan.partition)}: {passed} of {len(outcome.checks)} checks passed")
    for one in others:
        summary = escape(one.summary)
        console.print(f"  [{COLORS[one.result]}]{one.result}[/] {one.asset} · {one.name} [dim]{summary}[/dim]")


def _show_metrics(name: str) -> None:
    """Table of the current metrics of all users, if there are any."""
    version = project.versions("rerank_metrics", name).find_current()
    if version is None:
        return
    rows: pl.DataFrame = project.outputs(name).format("rerank_metrics").read(version.directory)
    overall = rows.filter((pl.col("scenario") == "all") & pl.col("metric").is_in(METRIC_NAMES))
    table = Table(title=f"{name} · {overall['users'][0]:,} users", title_justify="left")
    for column in ("metric", "candidates", "reranked", "lift"):
        table.add_column(column, justify="left" if column == "metric" else "right")
    for row in overall.iter_rows(named=True):
        lift = "" if row["lift"] is None else f"{row['lift']:+.1%}"
        table.add_row(f"{row['metric']}@{row['k']}", f"{row['candidate']:.4f}", f"{row['reranked']:.4f}", lift)
    console.print(table)


def _show_outputs(name: str) -> None:
    out_root = project.dataset(name).data.out_root
    for path in ("rerank/reranked.jsonl", "rerank/metrics.json", "train"):
        if (out_root / path).exists():
            console.print(f"  {out_root / path}")


def _title(partition: str) -> str:
    return "all datasets" if partition == UNPARTITIONED else partition
