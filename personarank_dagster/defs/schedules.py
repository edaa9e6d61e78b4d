"""One schedule per dataset, from its schedule.yaml."""

import dagster as dg
from dagster._utils.schedules import is_valid_cron_schedule

from personarank_dagster.core.config import ScheduleConfig, config_dir, dataset_names, load_schedule
from personarank_dagster.core.errors import ConfigError
from personarank_dagster.defs.due import scheduled_run
from personarank_dagster.defs.jobs import DATASET_JOBS
from personarank_dagster.defs.resources import ProjectResource


def dataset_schedule(dataset: str, settings: ScheduleConfig) -> dg.ScheduleDefinition:
    """The schedule of a dataset: a run of its partition, or a skip with the reason. Raises ConfigError for cron."""
    if not is_valid_cron_schedule(settings.cron):
        raise ConfigError(
            f"{config_dir() / dataset / 'schedule.yaml'}: cron must be a cron expression of five fields that can "
            f"come true, like '0 3 * * *', got {settings.cron!r}"
        )
    job = DATASET_JOBS[settings.job]

    @dg.schedule(
        name=f"{dataset.replace('-', '_')}_schedule",
        job=job,
        cron_schedule=settings.cron,
        execution_timezone=settings.timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING if settings.enabled else dg.DefaultScheduleStatus.STOPPED,
        description=f"Runs {job.name} for {dataset}, of which only what is stale, and skips where nothing is. "
        f"Set in configs/{dataset}/schedule.yaml.",
        tags={"dataset": dataset},
    )
    def schedule(context: dg.ScheduleEvaluationContext, project: ProjectResource) -> dg.RunRequest | dg.SkipReason:
        return scheduled_run(project, dataset, job.selection, context.instance)

    return schedule


schedules = [dataset_schedule(name, load_schedule(config_dir(), name)) for name in dataset_names(config_dir())]
