"""One schedule per dataset, from its schedule.yaml."""

from collections.abc import Sequence

import dagster as dg
from dagster._utils.schedules import is_valid_cron_schedule

from personarank_dagster.configuration.dataset import config_dir, dataset_names, load_schedule
from personarank_dagster.configuration.settings import ScheduleConfig
from personarank_dagster.core.errors import ConfigError
from personarank_dagster.defs.automation.due import scheduled_run
from personarank_dagster.defs.automation.jobs import DATASET_JOBS
from personarank_dagster.defs.platform.resources import ProjectResource


def dataset_schedule(dataset: str, settings: ScheduleConfig) -> dg.ScheduleDefinition:
    """The schedule of a dataset: a run of its partition, or a skip with the reason. Raises ConfigError for cron."""
    if not is_valid_cron_schedule(settings.cron):
        raise ConfigError(
            f"{config_dir() / dataset / 'schedule.yaml'}: cron must be a cron expression of five fields that can "
            f"come true, like '0 3 * * *', got {settings.cron!r}"
        )
    job = DATASET_JOBS[settings.job]

    @dg.schedule(
        name=schedule_name(dataset),
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


def schedule_name(dataset: str) -> str:
    """The name of a dataset's schedule: Dagster's names have no -."""
    return f"{dataset.replace('-', '_')}_schedule"


def dataset_schedules(datasets: Sequence[str]) -> list[dg.ScheduleDefinition]:
    """The schedules of all datasets. Raises ConfigError if two of them would have one name."""
    dataset_by_schedule: dict[str, str] = {}
    for dataset in datasets:
        other = dataset_by_schedule.setdefault(schedule_name(dataset), dataset)
        if other != dataset:
            raise ConfigError(
                f"{config_dir() / dataset}: datasets must differ in more than - and _, got {other} and {dataset}, "
                f"whose schedules would both be called {schedule_name(dataset)}; rename one of the folders"
            )
    return [dataset_schedule(dataset, load_schedule(config_dir(), dataset)) for dataset in datasets]


schedules = dataset_schedules(dataset_names(config_dir()))
