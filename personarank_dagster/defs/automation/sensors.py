"""Sensors, both off until they are turned on in the UI: one for changed raw files, one for automation conditions."""

import dagster as dg

from personarank_dagster.core.errors import PersonarankError
from personarank_dagster.defs.automation.due import run_for_raw_files
from personarank_dagster.defs.automation.jobs import REPORT, full_refresh_job
from personarank_dagster.defs.platform.partitions import dataset_partitions
from personarank_dagster.defs.platform.resources import ProjectResource


@dg.sensor(
    job=full_refresh_job,
    minimum_interval_seconds=30,
    description="Runs what is stale of a dataset once its changed raw files have stayed as they are for a minute.",
)
def raw_files_sensor(
    context: dg.SensorEvaluationContext, project: ProjectResource
) -> list[dg.RunRequest] | dg.SkipReason:
    """One run per dataset and content."""
    found = [_run_or_reason(context, project, name) for name in dataset_partitions.get_partition_keys()]
    requests = [one for one in found if isinstance(one, dg.RunRequest)]
    return requests or dg.SkipReason("; ".join(one for one in found if isinstance(one, str)))


def _run_or_reason(
    context: dg.SensorEvaluationContext, project: ProjectResource, dataset: str
) -> dg.RunRequest | str:
    """A run, or why there is none; a dataset that cannot be looked at costs no other, and the tick's log names it."""
    try:
        return run_for_raw_files(project, dataset, context.instance)
    except PersonarankError as error:
        context.log.error(f"{dataset}: {error}")
        return f"{dataset}: {error}"


automation_sensor = dg.AutomationConditionSensorDefinition(
    "automation_sensor",
    target=dg.AssetSelection.all(include_sources=True) - REPORT,
    description="The switch of the assets' automation conditions: while it is on, an asset is made anew for a "
    "dataset as soon as what it is made from has changed for that dataset.",
)
