"""One schedule per dataset, from its schedule.yaml."""

from collections.abc import Sequence
from functools import lru_cache

import dagster as dg
from dagster._utils.schedules import is_valid_cron_schedule

from personarank_dagster.configuration.dataset import load_schedule, reads_enabled
from personarank_dagster.configuration.settings import ScheduleConfig
from personarank_dagster.core.errors import ConfigError
from personarank_dagster.defs.automation.due import scheduled_run
from personarank_dagster.defs.automation.jobs import dataset_jobs
from personarank_dagster.defs.platform.declarations import with_resources
from personarank_dagster.defs.platform.mounts import Mount
from personarank_dagster.defs.platform.resources import ProjectResource


def dataset_schedule(mount: Mount, dataset: str, settings: ScheduleConfig) -> dg.ScheduleDefinition:
    """The schedule of a dataset: a run of its partition, or a skip with the reason. Raises ConfigError for cron."""
    if not is_valid_cron_schedule(settings.cron):
        raise ConfigError(
            f"{mount.datasets_folder / dataset / 'schedule.yaml'}: cron must be a cron expression of five fields "
            f"that can come true, like '0 3 * * *', got {settings.cron!r}"
        )
    job = dataset_jobs()[settings.job]

    def tick(context: dg.ScheduleEvaluationContext, project: ProjectResource) -> dg.RunRequest | dg.SkipReason:
        return scheduled_run(project, dataset, job.assets, context.instance)

    given = with_resources(tick, mount)
    return dg.schedule(
        name=mount.called(schedule_name(dataset)),
        job_name=mount.called(job.name),
        cron_schedule=settings.cron,
        execution_timezone=settings.timezone,
        default_status=_status(settings.enabled),
        description=f"Runs {job.name} for {dataset}, of which only what is stale, and skips where nothing is. "
        f"Set in configs/{dataset}/schedule.yaml.",
        tags={"dataset": dataset},
        required_resource_keys=given.keys,
    )(given.body)


def failing_schedule(mount: Mount, datasets: Sequence[str], problem: str) -> dg.ScheduleDefinition:
    """A schedule that is on if a file can be read as far as that, or by the UI, and whose ticks then fail."""

    @dg.schedule(
        name=mount.called(schedule_name(datasets[0])),
        job_name=mount.called(ScheduleConfig().job),
        cron_schedule=ScheduleConfig().cron,
        default_status=_status(any(reads_enabled(mount.datasets_folder, dataset) for dataset in datasets)),
        description=f"Runs nothing until this is mended: {problem}",
        tags={"dataset": datasets[0]},
    )
    def schedule() -> dg.SkipReason:
        raise ConfigError(problem)

    return schedule


def _status(enabled: bool) -> dg.DefaultScheduleStatus:
    return dg.DefaultScheduleStatus.RUNNING if enabled else dg.DefaultScheduleStatus.STOPPED


def schedule_problem(mount: Mount, dataset: str) -> str:
    """What is wrong with the schedule.yaml of a dataset; empty if nothing is."""
    schedule = _schedule(mount, _by_schedule(tuple(mount.datasets))[schedule_name(dataset)])
    return "" if isinstance(schedule, dg.ScheduleDefinition) else str(schedule)


def schedule_name(dataset: str) -> str:
    """The name of a dataset's schedule: Dagster's names have no -."""
    return f"{dataset.replace('-', '_')}_schedule"


def dataset_schedules(mount: Mount, datasets: Sequence[str]) -> list[dg.ScheduleDefinition]:
    """The schedules of all datasets; what breaks a rule costs its own schedule alone.

    Datasets whose schedules would have one name share one that fails.
    """
    return [_or_failing(mount, names) for names in _by_schedule(tuple(datasets)).values()]


# For the problems of ten thousand datasets it is asked ten thousand times.
@lru_cache(maxsize=1)
def _by_schedule(datasets: tuple[str, ...]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for dataset in datasets:
        found.setdefault(schedule_name(dataset), []).append(dataset)
    return found


def _or_failing(mount: Mount, datasets: list[str]) -> dg.ScheduleDefinition:
    schedule = _schedule(mount, datasets)
    return failing_schedule(mount, datasets, str(schedule)) if isinstance(schedule, ConfigError) else schedule


def _schedule(mount: Mount, datasets: list[str]) -> dg.ScheduleDefinition | ConfigError:
    if len(datasets) > 1:
        return ConfigError(
            f"{mount.datasets_folder}: datasets must differ in more than - and _, got {', '.join(datasets)}, whose "
            f"schedules would all be called {schedule_name(datasets[0])}; until a folder is renamed they have none"
        )
    try:
        return dataset_schedule(mount, datasets[0], load_schedule(mount.datasets_folder, datasets[0]))
    except ConfigError as error:
        return error
