"""Everything that Dagster sees: the table of contents."""

import dagster as dg

from personarank_dagster.defs.automation.freshness import metrics_are_recent
from personarank_dagster.defs.automation.jobs import DATASET_JOBS, metrics_report_job
from personarank_dagster.defs.automation.schedules import schedules
from personarank_dagster.defs.automation.sensors import automation_sensor, raw_files_sensor
from personarank_dagster.defs.graph import all_assets, all_checks
from personarank_dagster.defs.platform.io_manager import VersionedIOManager
from personarank_dagster.defs.platform.resources import GpuResource, ProgressResource, ProjectResource, bounded

project = ProjectResource()

defs = dg.Definitions(
    assets=all_assets,
    asset_checks=[*all_checks, metrics_are_recent],
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
