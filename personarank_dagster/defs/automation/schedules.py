"""One schedule per dataset, from its schedule.yaml."""

from collections.abc import Sequence

import dagster as dg
from dagster._utils.schedules import is_valid_cron_schedule

from personarank_dagster.configuration.dataset import config_dir, dataset_names, load_schedule, reads_enabled
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
        default_status=_status(settings.enabled),
        description=f"Runs {job.name} for {dataset}, of which only what is stale, and skips where nothing is. "
        f"Set in configs/{dataset}/schedule.yaml.",
        tags={"dataset": dataset},
    )
    def schedule(context: dg.ScheduleEvaluationContext, project: ProjectResource) -> dg.RunRequest | dg.SkipReason:
        return scheduled_run(project, dataset, job.selection, context.instance)

    return schedule


def failing_schedule(dataset: str, problem: str) -> dg.ScheduleDefinition:
    """A schedule that is on if its file can be read as far as that, or by the UI, and whose ticks then fail."""

    @dg.schedule(
        name=schedule_name(dataset),
        job=DATASET_JOBS[ScheduleConfig().job],
        cron_schedule=ScheduleConfig().cron,
        default_status=_status(reads_enabled(config_dir(), dataset)),
        description=f"Runs nothing until its file is mended: {problem}",
        tags={"dataset": dataset},
    )
    def schedule() -> dg.SkipReason:
        raise ConfigError(problem)

    return schedule


def _status(enabled: bool) -> dg.DefaultScheduleStatus:
    return dg.DefaultScheduleStatus.RUNNING if enabled else dg.DefaultScheduleStatus.STOPPED


def schedule_problem(dataset: str) -> str:
    """What is wrong with the schedule.yaml of a dataset; empty if nothing is."""
    schedule = _schedule(dataset)
    return "" if isinstance(schedule, dg.ScheduleDefinition) else str(schedule)


def schedule_name(dataset: str) -> str:
    """The name of a dataset's schedule: Dagster's names have no -."""
    return f"{dataset.replace('-', '_')}_schedule"


def dataset_schedules(datasets: Sequence[str]) -> list[dg.ScheduleDefinition]:
    """The schedules of all datasets; a file that breaks a rule costs its own schedule alone.

    Raises ConfigError if two of them would have one name.
    """
    dataset_by_schedule: dict[str, str] = {}
    for dataset in datasets:
        other = dataset_by_schedule.setdefault(schedule_name(dataset), dataset)
        if other != dataset:
            raise ConfigError(
                f"{config_dir() / dataset}: datasets must differ in more than - and _, got {other} and {dataset}, "
                f"whose schedules would both be called {schedule_name(dataset)}; rename one of the folders"
            )
    read = {dataset: _schedule(dataset) for dataset in datasets}
    return [
        failing_schedule(dataset, str(one)) if isinstance(one, ConfigError) else one for dataset, one in read.items()
    ]


def _schedule(dataset: str) -> dg.ScheduleDefinition | ConfigError:
    try:
        return dataset_schedule(dataset, load_schedule(config_dir(), dataset))
    except ConfigError as error:
        return error


schedules = dataset_schedules(dataset_names(config_dir()))
