"""How old each dataset's metrics are. Dagster's own freshness knows no partitions."""

from datetime import UTC, datetime
from typing import Any

import dagster as dg

from personarank_dagster.defs.platform.mounts import Mount
from personarank_dagster.defs.platform.published_checks import mounted_check, not_checked, of_each_dataset
from personarank_dagster.defs.platform.resources import ProjectResource

METRICS, RECENT = "rerank_metrics", "metrics_are_recent"


def metrics_are_recent(mount: Mount) -> dg.AssetChecksDefinition:
    """The check of how old metrics are."""
    return mounted_check(
        _evaluate,
        mount,
        METRICS,
        name=RECENT,
        description="The metrics are not older than max_metrics_age_days of data.yaml. Evaluated by every run that "
        "makes them and by every tick of the dataset's schedule.",
    )


def _evaluate(context: dg.AssetCheckExecutionContext, project: ProjectResource) -> dg.AssetCheckResult:
    def of_dataset(dataset: str) -> dg.AssetCheckResult:
        return dg.AssetCheckResult(**_evaluation(project, dataset))

    return of_each_dataset(context, project.mount.datasets, of_dataset)


def report_age(project: ProjectResource, dataset: str, instance: dg.DagsterInstance) -> None:
    """Record the evaluation of a moment in which nothing runs, so that metrics grow old in the UI.

    It replaces that of the run which made the metrics. Dagster stores one evaluation for each run, check and
    partition, and without a run only the first.
    """
    current = project.versions(METRICS, dataset).find_current()
    if current is None:
        return
    evaluation = dg.AssetCheckEvaluation(
        project.mount.key(METRICS), RECENT, partition=dataset, **_evaluation(project, dataset)
    )
    event = dg.DagsterEvent(
        event_type_value=dg.DagsterEventType.ASSET_CHECK_EVALUATION.value,
        job_name="schedule",
        event_specific_data=evaluation,
    )
    instance.report_dagster_event(event, run_id=current.manifest.run_id)


def age_in_days(created: datetime, now: datetime) -> float:
    """Days from one moment to another."""
    return (now - created).total_seconds() / 86_400


def _evaluation(project: ProjectResource, dataset: str) -> dict[str, Any]:
    limit = project.dataset(dataset).data.max_metrics_age_days
    current = project.versions(METRICS, dataset).find_current()
    if current is None:
        missing = not_checked(f"nothing is published of {METRICS}")
        return {"passed": False, "severity": missing.severity, "metadata": missing.numbers}
    age = age_in_days(current.manifest.created, datetime.now(UTC))
    return {
        "passed": age <= limit,
        "severity": dg.AssetCheckSeverity.WARN,
        "metadata": {"age_days": round(age, 3), "max_age_days": limit},
    }
