"""A graph as Definitions: the table of contents of all that Dagster sees of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict, Unpack

import dagster as dg

from personarank_dagster.configuration.out_roots import Override, is_address
from personarank_dagster.configuration.settings import RAW_FILE_KEYS
from personarank_dagster.core.errors import ConfigError, near
from personarank_dagster.defs.automation.freshness import metrics_are_recent
from personarank_dagster.defs.automation.jobs import dataset_jobs, report_job
from personarank_dagster.defs.automation.schedules import dataset_schedules
from personarank_dagster.defs.automation.sensors import automation_sensor, raw_files_sensor
from personarank_dagster.defs.graph import all_assets, all_checks
from personarank_dagster.defs.platform.compute import ComputeResource, this_machine
from personarank_dagster.defs.platform.io.io_manager import VersionedIOManager
from personarank_dagster.defs.platform.mounts import OWNERS, Mount, as_name
from personarank_dagster.defs.platform.resources import GpuResource, ProgressResource, ProjectResource, bounded

ANY_DEVICE = GpuResource(device="auto", devices=0, precision="auto", memory_share=1.0)
ANY_ENGINE = ComputeResource(engine="auto", actors=0, cpus_per_actor=1.0, gpus_per_actor=0.0)
THIS_MACHINE = this_machine()

# Begins the names of jobs, schedules, sensors and resources where there is no prefix.
NAMESPACE = "personarank"


class Placement(TypedDict, total=False):
    """Where a graph stands in a code location, and what its definitions are called; what is left out is as for
    `mount_of`.
    """

    out_root: Path | str | None
    key_prefix: Sequence[str]
    group_name: str | None
    owners: Sequence[str]
    tags: Mapping[str, str] | None
    pool: str
    raw_assets: Mapping[str, Sequence[str]] | None


def build_definitions(
    config_dir: Path | str,
    *,
    schedules: bool = True,
    sensors: bool = True,
    gpu: GpuResource = ANY_DEVICE,
    compute: ComputeResource = THIS_MACHINE,
    **placement: Unpack[Placement],
) -> dg.Definitions:
    """Definitions of the graph over the datasets in a folder, to be merged with others; for those without components.

    `out_root` has the outputs of each dataset in `<out_root>/<dataset>`; without it they go where data.yaml says.
    `key_prefix` begins all keys and, joined by _, all names of jobs, schedules, sensors and resources, which
    otherwise begin with `personarank_`; two graphs differ in it. `group_name`, `owners`, `tags` and the concurrency
    `pool` are those of all assets. `raw_assets` are the keys of assets that stand for raw files, by their keys in
    data.yaml, where they are left out. Raises ConfigError if there are no datasets.
    """
    project = ProjectResource(mount=mount_of(config_dir, **placement))
    return mounted_definitions(project, gpu=gpu, compute=compute, schedules=schedules, sensors=sensors)


def mount_of(
    config_dir: Path | str,
    *,
    out_root: Path | str | None = None,
    key_prefix: Sequence[str] = (),
    group_name: str | None = None,
    owners: Sequence[str] = OWNERS,
    tags: Mapping[str, str] | None = None,
    pool: str = "gpu",
    raw_assets: Mapping[str, Sequence[str]] | None = None,
) -> Mount:
    """The mount of these settings; nothing comes from the environment. Raises ConfigError for an unknown key."""
    folder = Path(config_dir).absolute()
    return Mount(
        folder=folder,
        override=Override(_absolute(out_root), default_work_dir=folder.parent / "outputs"),
        key_prefix=tuple(key_prefix),
        namespace=as_name(*(key_prefix or (NAMESPACE,))),
        group=group_name,
        owners=tuple(owners),
        tags=dict(tags or {}),
        pool=pool,
        raw_assets=_checked(raw_assets or {}),
    )


def mounted_definitions(
    project: ProjectResource,
    *,
    gpu: GpuResource = ANY_DEVICE,
    compute: ComputeResource = ANY_ENGINE,
    schedules: bool = True,
    sensors: bool = True,
    executor: dg.ExecutorDefinition | None = None,
) -> dg.Definitions:
    """Everything that Dagster sees of one graph; without an executor its runs have that of the code location."""
    mount = project.mount
    return dg.Definitions(
        assets=all_assets(mount),
        asset_checks=[*all_checks(mount), metrics_are_recent(mount)],
        jobs=[job.mounted(mount) for job in (*dataset_jobs().values(), report_job)],
        schedules=dataset_schedules(mount, mount.datasets) if schedules else [],
        sensors=[raw_files_sensor(mount), automation_sensor(mount)] if sensors else [],
        resources={
            mount.called("project"): project,
            mount.called("gpu"): bounded(gpu, "gpu"),
            mount.called("compute"): bounded(compute, "compute"),
            mount.called("progress"): ProgressResource(terminal=False),
            mount.called("io_manager"): VersionedIOManager(project=project),
        },
        executor=executor,
    )


def _absolute(place: Path | str | None) -> str:
    if place is None or is_address(place):
        return str(place or "")
    return str(Path(place).absolute())


def _checked(raw_assets: Mapping[str, Sequence[str]]) -> dict[str, dg.AssetKey]:
    if unknown := [key for key in raw_assets if key not in RAW_FILE_KEYS]:
        raise ConfigError(
            f"raw_assets: unknown key {unknown[0]}; {near(unknown[0], RAW_FILE_KEYS)}a raw file is one of "
            f"{', '.join(RAW_FILE_KEYS)}"
        )
    return {key: dg.AssetKey(path) for key, path in raw_assets.items()}
