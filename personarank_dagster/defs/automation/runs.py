"""Materialise partitions in this process, on the persistent Dagster instance, where the UI shows the runs."""

import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluation
from sqlalchemy.exc import SQLAlchemyError

from personarank_dagster.core.errors import PersonarankError, UsageError, near, reason_of
from personarank_dagster.core.quantities import told
from personarank_dagster.defs.automation.jobs import FULL_REFRESH, REPORT, REPORT_JOB
from personarank_dagster.defs.automation.launching import execute_job
from personarank_dagster.defs.platform.declarations import RAW, asset_names, declared
from personarank_dagster.defs.platform.lineage.provenance import Change, change_of, current_inputs
from personarank_dagster.defs.platform.lineage.run_tags import PROCESS_TAG
from personarank_dagster.defs.platform.lineage.snapshots import content_of, take_snapshot
from personarank_dagster.defs.platform.mounts import Mount
from personarank_dagster.defs.platform.partitions import UNPARTITIONED
from personarank_dagster.defs.platform.published_checks import NOT_CHECKED
from personarank_dagster.defs.platform.resources import ProjectResource
from personarank_dagster.storage.process_identity import is_dead, this_process

# How often a run looks whether another one was killed.
RIVAL_SECONDS = 15.0

# Dagster's own name for it.
DATA_VERSION_TAG = "dagster/data_version"


# A name in a selection of bare ones, and numbers and words of the syntax that stand among them.
NAME = re.compile(r"(?<![\w/])[\w/]*[a-z][\w/]*")
SELECTION_WORDS = ("and", "or", "not")

OPEN = [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]


@dataclass(frozen=True)
class Plan:
    """Assets of one partition that a run would materialise, each with the reason, in the order of the graph.

    They are among the selected ones.
    """

    partition: str
    reasons: Mapping[str, str]
    selected: tuple[str, ...] = ()
    mount: Mount = field(default_factory=Mount)


@dataclass(frozen=True)
class CheckResult:
    """What a check of a run found, and the numbers behind it."""

    name: str
    asset: str
    result: Literal["pass", "warn", "fail", "not checked"]
    numbers: Mapping[str, Any]

    @property
    def summary(self) -> str:
        """The numbers, or why there are none, for a person."""
        if reason := self.numbers.get(NOT_CHECKED):
            return str(reason)
        return ", ".join(told(name, value) for name, value in self.numbers.items())


@dataclass(frozen=True)
class Outcome:
    """A finished run: the message of each step that failed, what each check found, and what steps warned of."""

    plan: Plan
    run_id: str = ""
    failures: Mapping[str, str] = field(default_factory=dict)
    checks: tuple[CheckResult, ...] = ()
    warnings: tuple[str, ...] = ()


def plan_run(
    defs: dg.Definitions,
    project: ProjectResource,
    partition: str,
    *,
    select: str | None = None,
    force: bool = False,
) -> Plan:
    """Decide what to materialise: whatever is stale, and what comes after it; with `force` everything selected.

    `select` is a Dagster asset selection, or names joined by commas; `trained_encoder+` is it and all that comes
    after it. Raises UsageError if it selects nothing or names none.
    """
    if partition == UNPARTITIONED and not current_inputs(project, take_snapshot(project, partition), REPORT):
        return Plan(partition, {}, mount=project.mount)
    selected = _selected(defs, project.mount, partition, select)
    reasons = reasons_to_run(project, selected, partition, force=force)
    return Plan(partition, reasons, tuple(selected), project.mount)


def check_selection(defs: dg.Definitions, mount: Mount, select: str | None) -> None:
    """Raise UsageError if this selects nothing or names no asset, in whichever partition."""
    _selected(defs, mount, UNPARTITIONED, select)


def reasons_to_run(
    project: ProjectResource,
    assets: Sequence[str],
    partition: str,
    *,
    force: bool = False,
    counts: Callable[[Change], bool] = lambda change: True,
) -> dict[str, str]:
    """Those of the assets, given in the order of the graph, that are stale or come after a stale one, and why.

    An asset is stale by a change that `counts`.
    """
    snapshot = take_snapshot(project, partition)
    reasons: dict[str, str] = {}
    for asset in assets:
        if snapshot.dataset and not declared(asset).is_made(snapshot.dataset):
            continue
        stale_upstream = [name for name in declared(asset).reads(snapshot.dataset) if name in reasons]
        change = None if force else change_of(project, snapshot, asset)
        reason = "forced" if force else change.reason if change and counts(change) else None
        if reason is None and stale_upstream:
            reason = f"after {', '.join(stale_upstream)}"
        if reason:
            reasons[asset] = reason
    return reasons


def execute(
    defs: dg.Definitions,
    plan: Plan,
    instance: dg.DagsterInstance,
    *,
    progress_bars: bool = False,
    on_asset: Callable[[str], None] | None = None,
) -> Outcome:
    """Materialise what the plan says as one run; `on_asset` is told of each asset when it begins.

    Raises KeyboardInterrupt if it was interrupted.
    """
    if not plan.reasons:
        return Outcome(plan)
    unpartitioned, mount = plan.partition == UNPARTITIONED, plan.mount
    progress = {"config": {"terminal": progress_bars}}
    resources = {} if unpartitioned else {mount.called("progress"): progress}
    with _ending_dead_runs(instance):
        result = execute_job(
            defs,
            mount.called(REPORT_JOB if unpartitioned else FULL_REFRESH),
            mount=mount,
            instance=instance,
            partition=None if unpartitioned else plan.partition,
            assets=mount.keys(plan.reasons),
            run_config={"resources": resources, "loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            tags={PROCESS_TAG: this_process()},
            on_event=_begun_assets(plan, on_asset) if on_asset else None,
        )
    failures = _failures(result)
    if any(dg.DagsterExecutionInterruptedError.__name__ in message for message in failures.values()):
        raise KeyboardInterrupt
    checks = tuple(map(_check_result, result.get_asset_check_evaluations()))
    return Outcome(plan, result.run_id, failures, checks, _warnings(instance, result.run_id))


def _begun_assets(plan: Plan, on_asset: Callable[[str], None]) -> Callable[[dg.DagsterEvent], None]:
    assets = {plan.mount.key(asset).to_python_identifier(): asset for asset in plan.reasons}

    def look(event: dg.DagsterEvent) -> None:
        step = event.step_key or ""
        if event.is_step_start and step in assets:
            on_asset(assets[step])

    return look


def end_dead_runs(instance: dg.DagsterInstance, *, interrupted: bool = False) -> list[str]:
    """Fail runs whose process on this machine is gone, or cancel them, and free their pool slots; returns their ids.

    A killed process leaves its run started and its slots taken, and every later run would wait for them.
    """
    open_runs = instance.get_runs(dg.RunsFilter(statuses=OPEN))
    dead = [run for run in open_runs if is_dead(_process(run, instance))]
    for run in dead:
        if interrupted:
            instance.report_run_canceled(run, "it was interrupted")
        else:
            instance.report_run_failed(run, "its process is gone")
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
    return [run.run_id for run in dead]


@contextmanager
def _ending_dead_runs(instance: dg.DagsterInstance) -> Iterator[None]:
    """Look for them every now and then: a run that waits for what they hold would wait for ever without a daemon."""
    done = threading.Event()

    def look() -> None:
        while not done.wait(RIVAL_SECONDS):
            with suppress(SQLAlchemyError):
                end_dead_runs(instance)

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    try:
        yield
    finally:
        done.set()
        looking.join()


def _process(run: dg.DagsterRun, instance: dg.DagsterInstance) -> str:
    """The process of a run, "" if not known: one that is executed again begins with the tags of its parent."""
    process = run.tags.get(PROCESS_TAG, "")
    parent = instance.get_run_by_id(run.parent_run_id) if run.parent_run_id else None
    return "" if parent and parent.tags.get(PROCESS_TAG) == process else process


def observe_raw_files(project: ProjectResource, partition: str, instance: dg.DagsterInstance) -> None:
    """Record the content hash of each raw file of a dataset, so that the UI shows what is stale after a change."""
    dataset = project.dataset(partition)
    observed = {key: path for key, path in dataset.data.raw_files.items() if key not in dataset.given}
    for key, path in observed.items():
        version = dg.DataVersion(content_of(dataset, f"{RAW}/{key}"))
        metadata = {"path": dg.MetadataValue.path(str(path))}
        tags = {DATA_VERSION_TAG: version.value}
        instance.report_runless_asset_event(
            dg.AssetObservation(project.mount.key(f"{RAW}/{key}"), partition=partition, metadata=metadata, tags=tags)
        )


def _selected(defs: dg.Definitions, mount: Mount, partition: str, select: str | None) -> list[str]:
    """Selected assets of this partition (or those without partitions), in the order of the graph."""
    graph = defs.resolve_asset_graph()
    names = asset_names(partitioned=partition != UNPARTITIONED)
    if select is None:
        return names
    _check_names(select, [_short(mount, key) for key in graph.get_all_asset_keys()])
    try:
        keys = dg.AssetSelection.from_string(_selection_syntax(mount, select)).resolve(graph)
    except dg.DagsterError as error:
        raise UsageError(f"--select {select}: {reason_of(error)}") from error
    if not any(_short(mount, key) in asset_names() for key in keys):
        raise UsageError(f"--select {select}: selects no asset; the assets are {', '.join(asset_names())}")
    return [name for name in names if mount.key(name) in keys]


def _short(mount: Mount, key: dg.AssetKey) -> str:
    """The asset's name, without the prefix of all of them."""
    return key.to_user_string().removeprefix("".join(f"{part}/" for part in mount.key_prefix))


def _check_names(select: str, known: list[str]) -> None:
    """Raise UsageError for a bare name that is no asset's: Dagster passes over it."""
    names = [] if ":" in select else NAME.findall(select)
    if unknown := [name for name in names if name not in (*known, *SELECTION_WORDS)]:
        said = "" if unknown[0] == select else f" {unknown[0]}"
        raise UsageError(
            f"--select {select}: unknown asset{said}; {near(unknown[0], known)}the assets are "
            f"{', '.join(asset_names())}"
        )


def _selection_syntax(mount: Mount, select: str) -> str:
    """Dagster's selection syntax; bare names joined by commas, like `personas,trained_encoder+`, are put into it."""
    if ":" in select:
        return select
    return " or ".join(
        NAME.sub(lambda name: f'key:"{mount.key(name[0]).to_user_string()}"', part) for part in select.split(",")
    )


def _check_result(evaluation: AssetCheckEvaluation) -> CheckResult:
    bad: Literal["warn", "fail"] = "warn" if evaluation.severity == dg.AssetCheckSeverity.WARN else "fail"
    numbers = {name: getattr(value, "value", value) for name, value in (evaluation.metadata or {}).items()}
    result = NOT_CHECKED if NOT_CHECKED in numbers else "pass" if evaluation.passed else bad
    return CheckResult(evaluation.check_name, evaluation.asset_key.to_user_string(), result, numbers)


def _warnings(instance: dg.DagsterInstance, run_id: str) -> tuple[str, ...]:
    logged = (entry for entry in instance.all_logs(run_id) if not entry.is_dagster_event)
    return tuple(entry.user_message for entry in logged if entry.level == logging.WARNING)


def _failures(result: dg.ExecuteInProcessResult) -> dict[str, str]:
    """Message of each failed step, or of the run where it failed outside of any step."""
    steps = {
        event.step_key or "": _message(event.step_failure_data.error)
        for event in result.all_events
        if event.is_step_failure
    }
    if result.success or steps:
        return steps
    failed = next(event for event in result.all_events if event.event_type == dg.DagsterEventType.RUN_FAILURE)
    error = failed.job_failure_data.error
    return {"run": _message(error) if error else str(failed.message)}


# Errors whose message is for the user: ours, and Dagster's that names the blocking checks that failed.
PLAIN = {error.__name__ for error in PersonarankError.__subclasses__()} | {"DagsterAssetCheckFailedError"}


def _message(error: Any) -> str:
    """Message of the error of ours among the causes of a step's failure, else of the innermost one."""
    while error.cls_name not in PLAIN and error.cause:
        error = error.cause
    message = str(error.message).strip()
    return message.split(": ", 1)[1] if error.cls_name in PLAIN else message
