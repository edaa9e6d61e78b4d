"""What Dagster and the command line see in this folder: its component's graph, or that of its datasets."""

import dagster as dg

from personarank_dagster.component.mounted import mounted_definitions
from personarank_dagster.component.projects import mount_here
from personarank_dagster.defs.platform.compute import engine_of_environment
from personarank_dagster.defs.platform.resources import ProjectResource

project = ProjectResource(mount=mount_here())

defs = mounted_definitions(project, compute=engine_of_environment(), executor=dg.in_process_executor)
