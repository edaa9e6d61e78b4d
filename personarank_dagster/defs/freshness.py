"""How old each dataset's metrics are. Dagster's own freshness knows no partitions."""

from datetime import UTC, datetime
from typing import Any

import dagster as dg

from personarank_dagster.defs.partitions import dataset_partitions
from personarank_dagster.defs.resources import ProjectResource

METRICS = "rerank_metrics"


@dg.asset_check(
    name="metrics_are_recent",
    asset=METRICS,
    partitions_def=dataset_partitions,
    description="The metrics are not older than max_metrics_age_days of data.yaml. Evaluated by every run that makes "
    "them and by every tick of the dataset's schedule.",
)
def metrics_are_recent(context: dg.AssetCheckExecutionContext, project: ProjectResource) -> dg.AssetCheckResult:
    """Evaluate the check."""
    return dg.AssetCheckResult(**_evaluation(project, context.partition_key))


def report_age(project: ProjectResource, dataset: str, instance: dg.DagsterInstance) -> None:
    """Record the evaluation of a moment in which nothing runs, so that metrics grow old in the UI."""
    if project.versions(METRICS, dataset).find_current() is None:
        return
    evaluation = _evaluation(project, dataset)
    check = metrics_are_recent.check_key
    instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(check.asset_key, check.name, partition=dataset, **evaluation)
    )


def age_in_days(created: datetime, now: datetime) -> float:
    """Days from one moment to another."""
    return (now - created).total_seconds() / 86_400


def _evaluation(project: ProjectResource, dataset: str) -> dict[str, Any]:
    limit = project.dataset(dataset).data.max_metrics_age_days
    age = age_in_days(project.versions(METRICS, dataset).current().manifest.created, datetime.now(UTC))
    return {
        "passed": age <= limit,
        "severity": dg.AssetCheckSeverity.WARN,
        "metadata": {"age_days": round(age, 3), "max_age_days": limit},
    }
