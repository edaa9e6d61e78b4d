"""Sensors, both off until they are turned on in the UI: one for changed raw files, one for automation conditions."""

import dagster as dg

from personarank_dagster.configuration.settings import RAW_FILE_KEYS
from personarank_dagster.core.errors import PersonarankError
from personarank_dagster.defs.automation.due import run_for_raw_files
from personarank_dagster.defs.automation.jobs import FULL_REFRESH
from personarank_dagster.defs.platform.declarations import RAW, asset_names, with_resources
from personarank_dagster.defs.platform.mounts import Mount
from personarank_dagster.defs.platform.resources import ProjectResource


def raw_files_sensor(mount: Mount) -> dg.SensorDefinition:
    """The sensor of raw files: one run per dataset and content."""
    given = with_resources(_tick, mount)
    return dg.sensor(
        name=mount.called("raw_files_sensor"),
        job_name=mount.called(FULL_REFRESH),
        minimum_interval_seconds=30,
        description="Runs what is stale of a dataset once its changed raw files have stayed as they are for a "
        "minute.",
        required_resource_keys=given.keys,
    )(given.body)


def _tick(context: dg.SensorEvaluationContext, project: ProjectResource) -> list[dg.RunRequest] | dg.SkipReason:
    found = [_run_or_reason(context, project, name) for name in project.mount.datasets]
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


def automation_sensor(mount: Mount) -> dg.AutomationConditionSensorDefinition:
    """The switch of the automation conditions."""
    watched = [*asset_names(partitioned=True), *(f"{RAW}/{key}" for key in RAW_FILE_KEYS)]
    return dg.AutomationConditionSensorDefinition(
        mount.called("automation_sensor"),
        target=dg.AssetSelection.assets(*mount.keys(watched)),
        description="The switch of the assets' automation conditions: while it is on, an asset is made anew for a "
        "dataset as soon as what it is made from has changed for that dataset.",
    )
