"""Execute a job in this process as what the UI would have launched: found under its job, and executed again there."""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dagster as dg
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run_iterator
from dagster._core.execution.execute_in_process import merge_run_tags
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin

from personarank_dagster.defs.platform.mounts import Mount


def execute_job(
    defs: dg.Definitions,
    job_name: str,
    *,
    mount: Mount,
    instance: dg.DagsterInstance,
    partition: str | None,
    assets: Sequence[dg.AssetKey],
    run_config: Mapping[str, Any],
    tags: Mapping[str, str],
    on_event: Callable[[dg.DagsterEvent], None] | None = None,
) -> dg.ExecuteInProcessResult:
    """Execute these assets of a job, and hand over each event when it happens. A step that fails does not raise.

    `JobDefinition.execute_in_process` gives its runs no origin: the UI lists them under no job and cannot execute
    them again. It also keeps every output in memory to the end.
    """
    job = defs.resolve_job_def(job_name)
    run = instance.create_run_for_job(
        job,
        run_config=run_config,
        tags=merge_run_tags(job, partition, tags, assets, instance, run_config),
        asset_selection=frozenset(assets),
        remote_job_origin=_remote_origin(defs, mount, job_name),
        job_code_origin=_code_origin(mount, job_name),
    )
    events = []
    for event in execute_run_iterator(InMemoryJob(job), run, instance):
        events.append(event)
        if on_event:
            on_event(event)
    ended = instance.get_run_by_id(run.run_id)
    return dg.ExecuteInProcessResult(events, ended or run, None, job)


def _remote_origin(defs: dg.Definitions, mount: Mount, job_name: str) -> RemoteJobOrigin:
    location = RegisteredCodeLocationOrigin(mount.location)
    return RemoteJobOrigin(RemoteRepositoryOrigin(location, defs.get_repository_def().name), job_name)


def _code_origin(mount: Mount, job_name: str) -> JobPythonOrigin:
    pointer = ModuleCodePointer(mount.module, "defs", working_directory=None)
    return JobPythonOrigin(job_name, RepositoryPythonOrigin(sys.executable, pointer))
