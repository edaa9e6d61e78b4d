"""Whether a dataset is due for a run, for whoever asks on a clock: schedules and the sensor of raw files."""

import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import dagster as dg

from personarank_dagster.defs.automation.freshness import report_age
from personarank_dagster.defs.automation.runs import observe_raw_files, reasons_to_run
from personarank_dagster.defs.platform.declarations import RAW, asset_names, declared, names_after
from personarank_dagster.defs.platform.lineage.provenance import Change
from personarank_dagster.defs.platform.lineage.run_tags import FINGERPRINT_TAG, PARTITION_TAG, run_tags
from personarank_dagster.defs.platform.lineage.snapshots import take_snapshot
from personarank_dagster.defs.platform.resources import ProjectResource
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
    project: ProjectResource, dataset: str, assets: Sequence[str], instance: dg.DagsterInstance
) -> dg.RunRequest | dg.SkipReason:
    """A run of what is stale among the assets, in exactly this partition; or why there is none."""
    observe_raw_files(project, dataset, instance)
    report_age(project, dataset, instance)
    reasons = _with_copies(project, dataset, reasons_to_run(project, assets, dataset), instance, assets)
    if not reasons:
        return dg.SkipReason(f"{dataset}: nothing that these assets depend on has changed since they were made")
    if making := _made_by_another_run(project, instance, dataset, reasons):
        return dg.SkipReason(f"{dataset}: {making}")
    return _request(project, dataset, reasons)


def run_for_raw_files(project: ProjectResource, dataset: str, instance: dg.DagsterInstance) -> dg.RunRequest | str:
    """A run of what is made from raw files that changed, and of what comes after it; or why there is none."""
    config = project.dataset(dataset)
    files = {key: path for key, path in config.data.raw_files.items() if key not in config.given}
    if missing := [str(path) for path in files.values() if not parts_of(path)]:
        return f"{dataset}: {', '.join(missing)} is missing"
    if (quiet := _quiet_seconds(files.values())) < QUIET_SECONDS:
        return f"{dataset}: a raw file changed {quiet:.0f} s ago; waiting until none has for {QUIET_SECONDS} s"
    observe_raw_files(project, dataset, instance)
    every = asset_names(partitioned=True)
    reasons = reasons_to_run(project, every, dataset, counts=_is_of_raw_files)
    reasons = _with_copies(project, dataset, reasons, instance, every)
    if not reasons:
        return f"{dataset}: no raw file has changed"
    if making := _made_by_another_run(project, instance, dataset, reasons):
        return f"{dataset}: {making}"
    request = _request(project, dataset, reasons)
    if (wait := _seconds_to_wait(instance, request)) > 0:
        return f"{dataset}: the last run on these contents failed; trying again in {wait:.0f} s"
    return request


def _with_copies(
    project: ProjectResource,
    dataset: str,
    reasons: dict[str, str],
    instance: dg.DagsterInstance,
    assets: Sequence[str],
) -> dict[str, str]:
    """With what is made of assets of others that were materialised since they were copied, from the copies on."""
    config = project.dataset(dataset)
    behind = {f"{RAW}/{key}": theirs for key, theirs in project.mount.raw_assets.items()}
    behind = {name: theirs for name, theirs in behind.items() if _is_behind(project, dataset, name, theirs, instance)}
    readers = [asset for asset in assets if not behind.keys().isdisjoint(declared(asset).inputs_of(config))]
    after = {name for reader in readers for name in names_after(reader)}
    new = {name: f"{theirs.to_user_string()} changed" for name, theirs in behind.items()} if readers else {}
    made = {name: reasons.get(name, "; ".join(new.values())) for name in assets if name in reasons or name in after}
    is_made = {name: why for name, why in made.items() if declared(name).is_made(config)}
    return new | is_made


def _is_behind(
    project: ProjectResource, dataset: str, copy: str, theirs: dg.AssetKey, instance: dg.DagsterInstance
) -> bool:
    last = _last(instance, theirs, dataset)
    return last is not None and last > (_last(instance, project.mount.key(copy), dataset) or 0)


def _last(instance: dg.DagsterInstance, asset: dg.AssetKey, dataset: str) -> int | None:
    """The place in the event log of an asset's last materialisation, of this partition where it has partitions."""
    records = instance.fetch_materializations(asset, limit=1).records
    if records and records[0].partition_key is not None:
        of_dataset = dg.AssetRecordsFilter(asset_key=asset, asset_partitions=[dataset])
        records = instance.fetch_materializations(of_dataset, limit=1).records
    return records[0].storage_id if records else None


def _is_of_raw_files(change: Change) -> bool:
    return any(name.startswith(f"{RAW}/") for name in change.inputs)


def _made_by_another_run(
    project: ProjectResource, instance: dg.DagsterInstance, dataset: str, assets: Iterable[str]
) -> str | None:
    """Which queued or running run already makes some of the assets."""
    wanted = {*project.mount.keys(assets)}
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
        asset_selection=project.mount.keys(reasons),
        tags={**run_tags(take_snapshot(project, dataset)), "reason": because[:200]},
    )


def _quiet_seconds(paths: Iterable[Path]) -> float:
    """Seconds since the last change of any of the files, of its content or of its place.

    A time that lies ahead, where a clock went back or another machine's is wrong, is as far away as one in the past.
    """
    stats = [part.stat() for path in paths for part in parts_of(path)]
    return min(abs(time.time() - changed) for stat in stats for changed in (stat.st_mtime, stat.st_ctime))
