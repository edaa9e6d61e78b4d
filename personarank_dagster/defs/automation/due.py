"""Whether a dataset is due for a run, for whoever asks on a clock: schedules and the sensor of raw files."""

import time
from collections.abc import Iterable
from pathlib import Path

import dagster as dg

from personarank_dagster.defs.automation.freshness import report_age
from personarank_dagster.defs.automation.runs import PARTITION_ASSETS, observe_raw_files, reasons_to_run
from personarank_dagster.defs.graph import all_assets
from personarank_dagster.defs.platform.provenance import RAW_INPUTS, dataset_fingerprint
from personarank_dagster.defs.platform.resources import ProjectResource
from personarank_dagster.defs.platform.run_tags import run_tags
from personarank_dagster.raw.parts import parts_of

# A raw file that changed more recently than this may still be written to.
QUIET_SECONDS = 60


def scheduled_run(
    project: ProjectResource, dataset: str, job: dg.AssetSelection, instance: dg.DagsterInstance
) -> dg.RunRequest | dg.SkipReason:
    """A run of what is stale among the job's assets, in exactly this partition; or why there is none."""
    observe_raw_files(project, dataset, instance)
    report_age(project, dataset, instance)
    reasons = reasons_to_run(project, _names(job), dataset)
    if not reasons:
        return dg.SkipReason(f"{dataset}: nothing that these assets depend on has changed since they were made")
    return _request(project, dataset, reasons)


def run_for_raw_files(project: ProjectResource, dataset: str, instance: dg.DagsterInstance) -> dg.RunRequest | str:
    """A run after a change of raw files, once per content; or why there is none."""
    files = project.dataset(dataset).data.raw_files
    if missing := [str(path) for path in files.values() if not parts_of(path)]:
        return f"{dataset}: {', '.join(missing)} is missing"
    if (quiet := _quiet_seconds(files.values())) < QUIET_SECONDS:
        return f"{dataset}: a raw file changed {quiet:.0f} s ago; waiting until none has for {QUIET_SECONDS} s"
    observe_raw_files(project, dataset, instance)
    reasons = reasons_to_run(project, PARTITION_ASSETS, dataset)
    if not reasons.keys() & RAW_INPUTS.keys():
        return f"{dataset}: no raw file has changed"
    return _request(project, dataset, reasons, run_key=f"{dataset}-{dataset_fingerprint(project, dataset)}")


def _request(
    project: ProjectResource, dataset: str, reasons: dict[str, str], run_key: str | None = None
) -> dg.RunRequest:
    because = "; ".join(dict.fromkeys(reasons.values()))
    return dg.RunRequest(
        run_key=run_key,
        partition_key=dataset,
        asset_selection=[dg.AssetKey(asset) for asset in reasons],
        tags={**run_tags(project, dataset), "reason": because[:200]},
    )


def _names(job: dg.AssetSelection) -> list[str]:
    selected = {key.path[-1] for key in job.resolve(all_assets)}
    return [asset for asset in PARTITION_ASSETS if asset in selected]


def _quiet_seconds(paths: Iterable[Path]) -> float:
    """Seconds since the last change of any of the files, of its content or of its place."""
    stats = [part.stat() for path in paths for part in parts_of(path)]
    return time.time() - max(max(stat.st_mtime, stat.st_ctime) for stat in stats)
