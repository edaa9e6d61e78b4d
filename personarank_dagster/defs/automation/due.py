"""Whether a dataset is due for a run, for whoever asks on a clock: schedules and the sensor of raw files."""

import time
from collections.abc import Iterable
from pathlib import Path

import dagster as dg

from personarank_dagster.defs.automation.freshness import report_age
from personarank_dagster.defs.automation.runs import observe_raw_files, reasons_to_run
from personarank_dagster.defs.graph import all_assets
from personarank_dagster.defs.platform.declarations import RAW, asset_names
from personarank_dagster.defs.platform.provenance import Change
from personarank_dagster.defs.platform.resources import ProjectResource
from personarank_dagster.defs.platform.run_tags import FINGERPRINT_TAG, PARTITION_TAG, run_tags
from personarank_dagster.defs.platform.snapshots import take_snapshot
from personarank_dagster.raw.parts import parts_of

# A raw file that changed more recently than this may still be written to.
QUIET_SECONDS = 60

# A run that failed on the same contents is tried again after a minute, then two, four, and at last every day.
FIRST_WAIT_SECONDS, LAST_WAIT_SECONDS = 60, 86_400

UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def scheduled_run(
    project: ProjectResource, dataset: str, job: dg.AssetSelection, instance: dg.DagsterInstance
) -> dg.RunRequest | dg.SkipReason:
    """A run of what is stale among the job's assets, in exactly this partition; or why there is none."""
    observe_raw_files(project, dataset, instance)
    report_age(project, dataset, instance)
    reasons = reasons_to_run(project, _names(job), dataset)
    if not reasons:
        return dg.SkipReason(f"{dataset}: nothing that these assets depend on has changed since they were made")
    if making := _made_by_another_run(instance, dataset, reasons):
        return dg.SkipReason(f"{dataset}: {making}")
    return _request(project, dataset, reasons)


def run_for_raw_files(project: ProjectResource, dataset: str, instance: dg.DagsterInstance) -> dg.RunRequest | str:
    """A run of what is made from raw files that changed, and of what comes after it; or why there is none."""
    files = project.dataset(dataset).data.raw_files
    if missing := [str(path) for path in files.values() if not parts_of(path)]:
        return f"{dataset}: {', '.join(missing)} is missing"
    if (quiet := _quiet_seconds(files.values())) < QUIET_SECONDS:
        return f"{dataset}: a raw file changed {quiet:.0f} s ago; waiting until none has for {QUIET_SECONDS} s"
    observe_raw_files(project, dataset, instance)
    reasons = reasons_to_run(project, asset_names(partitioned=True), dataset, counts=_is_of_raw_files)
    if not reasons:
        return f"{dataset}: no raw file has changed"
    if making := _made_by_another_run(instance, dataset, reasons):
        return f"{dataset}: {making}"
    request = _request(project, dataset, reasons)
    if (wait := _seconds_to_wait(instance, request)) > 0:
        return f"{dataset}: the last run on these contents failed; trying again in {wait:.0f} s"
    return request


def _is_of_raw_files(change: Change) -> bool:
    return any(name.startswith(f"{RAW}/") for name in change.inputs)


def _made_by_another_run(instance: dg.DagsterInstance, dataset: str, assets: Iterable[str]) -> str | None:
    """Which queued or running run already makes some of the assets."""
    wanted = {dg.AssetKey(asset) for asset in assets}
    for run in instance.get_runs(dg.RunsFilter(tags={PARTITION_TAG: dataset}, statuses=UNFINISHED)):
        if run.asset_selection is None or wanted & run.asset_selection:
            return f"run {run.run_id[:8]} is making it"
    return None


def _seconds_to_wait(instance: dg.DagsterInstance, request: dg.RunRequest) -> float:
    """How long to wait before contents are tried again on which runs have failed."""
    tags = {PARTITION_TAG: str(request.partition_key), FINGERPRINT_TAG: request.tags[FINGERPRINT_TAG]}
    failed = instance.get_run_records(dg.RunsFilter(tags=tags, statuses=[dg.DagsterRunStatus.FAILURE]), limit=20)
    if not failed:
        return 0
    wait = min(FIRST_WAIT_SECONDS * 2 ** (len(failed) - 1), LAST_WAIT_SECONDS)
    since = time.time() - max(record.end_time or 0 for record in failed)
    # A clock that went back says nothing of how long ago that was.
    return wait - since if since >= 0 else 0


def _request(project: ProjectResource, dataset: str, reasons: dict[str, str]) -> dg.RunRequest:
    because = "; ".join(dict.fromkeys(reasons.values()))
    return dg.RunRequest(
        partition_key=dataset,
        asset_selection=[dg.AssetKey(asset) for asset in reasons],
        tags={**run_tags(take_snapshot(project, dataset)), "reason": because[:200]},
    )


def _names(job: dg.AssetSelection) -> list[str]:
    selected = {key.path[-1] for key in job.resolve(all_assets)}
    return [asset for asset in asset_names(partitioned=True) if asset in selected]


def _quiet_seconds(paths: Iterable[Path]) -> float:
    """Seconds since the last change of any of the files, of its content or of its place.

    A time that lies ahead, where a clock went back or another machine's is wrong, is as far away as one in the past.
    """
    stats = [part.stat() for path in paths for part in parts_of(path)]
    return min(abs(time.time() - changed) for stat in stats for changed in (stat.st_mtime, stat.st_ctime))
