"""Everything that Dagster sees: the table of contents."""

import dagster as dg

from personarank_dagster.defs.assets import all_assets
from personarank_dagster.defs.cache_checks import all_cache_checks
from personarank_dagster.defs.checks import all_checks
from personarank_dagster.defs.encoder_checks import all_encoder_checks
from personarank_dagster.defs.freshness import metrics_are_recent
from personarank_dagster.defs.io_managers import VersionedIOManager
from personarank_dagster.defs.jobs import DATASET_JOBS, metrics_report_job
from personarank_dagster.defs.ranking_checks import all_ranking_checks
from personarank_dagster.defs.resources import GpuResource, ProgressResource, ProjectResource, bounded
from personarank_dagster.defs.schedules import schedules
from personarank_dagster.defs.sensors import automation_sensor, raw_files_sensor

project = ProjectResource()

defs = dg.Definitions(
    assets=all_assets,
    asset_checks=[
        *all_checks,
        *all_encoder_checks,
        *all_cache_checks,
        *all_ranking_checks,
        metrics_are_recent,
    ],
    jobs=[*DATASET_JOBS.values(), metrics_report_job],
    schedules=schedules,
    sensors=[raw_files_sensor, automation_sensor],
    resources={
        "project": project,
        "gpu": bounded(GpuResource(device="auto", devices=0, precision="auto", memory_share=1.0)),
        "progress": ProgressResource(terminal=False),
        "io_manager": VersionedIOManager(project=project),
    },
    executor=dg.in_process_executor,
)
