"""Look after the versions: list, go back, retire, verify, and put right what killed processes left behind."""

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import dagster as dg

from personarank_dagster.configuration.dataset import dataset_names, listed
from personarank_dagster.configuration.out_roots import is_address
from personarank_dagster.core.errors import PersonarankError, StorageError, UsageError, near
from personarank_dagster.defs.automation.abandoned import abandoned_versions
from personarank_dagster.defs.automation.jobs import REPORT
from personarank_dagster.defs.automation.runs import DATA_VERSION_TAG, end_dead_runs
from personarank_dagster.defs.platform.declarations import asset_names
from personarank_dagster.defs.platform.kept_vectors import retire_vectors, sweep_vectors
from personarank_dagster.defs.platform.lineage.provenance import checkpoint_folder, current_inputs, provenance
from personarank_dagster.defs.platform.lineage.snapshots import take_snapshot
from personarank_dagster.defs.platform.partitions import UNPARTITIONED
from personarank_dagster.defs.platform.resources import ProjectResource
from personarank_dagster.storage.scratch import sweep_scratch
from personarank_dagster.storage.versions import Version, VersionStore

ENCODER = "trained_encoder"

# Less free space than this is too little for the next version of a large cache.
LOW_DISK_BYTES = 2 << 30


@dataclass(frozen=True)
class Listed:
    """A version as `personarank versions` shows it; `problem` says why it cannot be read, `refused` which
    checks failed.
    """

    asset: str
    partition: str
    version: str
    current: bool
    created: str = ""
    run: str = ""
    rows: int | None = None
    bytes: int | None = None
    data_version: str = ""
    problem: str = ""
    refused: str = ""


@dataclass(frozen=True)
class Removed:
    """A version that is not kept; `in_use` ones stay until they are free."""

    asset: str
    partition: str
    version: str
    bytes: int
    in_use: bool = False


@dataclass(frozen=True)
class Verified:
    """A version whose files were hashed again; `damage` is empty if all are what the manifest says."""

    asset: str
    partition: str
    version: str
    files: int
    bytes: int
    damage: list[str]


@dataclass(frozen=True)
class Treated:
    """Something that was wrong, and what was done; `open` if a person has to act."""

    what: str
    done: str
    open: bool = False


def stores(project: ProjectResource, asset: str | None, partitions: tuple[str, ...]) -> Iterator[VersionStore]:
    """Stores of an asset, or all, and of partitions, or all that can be read.

    Raises UsageError for a name that is none.
    """
    if asset is not None and asset not in asset_names():
        raise UsageError(
            f"unknown asset {asset}; {near(asset, asset_names())}the assets are {', '.join(asset_names())}"
        )
    names = dataset_names(project.mount.datasets_folder)
    if unknown := [name for name in partitions if name not in (*names, UNPARTITIONED, "all")]:
        raise UsageError(
            f"unknown partition {', '.join(unknown)}; {near(unknown[0], names)}the datasets are {listed(names)}"
        )
    every = not partitions or "all" in partitions
    outputs = project.all_outputs() if every else {name: project.outputs(name) for name in partitions}
    if every:
        outputs[UNPARTITIONED] = project.outputs(UNPARTITIONED)
    for one, (partition, of_partition) in product([asset] if asset else asset_names(), outputs.items()):
        if (partition == UNPARTITIONED) == (one == REPORT):
            yield of_partition.versions(one)


def list_versions(found: Iterator[VersionStore]) -> list[Listed]:
    """All versions, by asset and partition, oldest first."""
    return [_listed(store, name) for store in found for name in store.names()]


def roll_back(
    project: ProjectResource,
    store: VersionStore,
    version: str | None,
    instance: dg.DagsterInstance,
    *,
    force: bool = False,
) -> Version:
    """Make an older version current, for readers, for the links for people, and in the Dagster UI."""
    chosen = store.rollback(version, force=force)
    partition = None if store.partition == UNPARTITIONED else store.partition
    if partition is not None:
        project.outputs(partition).refresh_links()
    instance.report_runless_asset_event(
        dg.AssetMaterialization(
            project.mount.key(store.asset),
            partition=partition,
            description=f"rolled back to version {chosen.name}",
            metadata={"version": chosen.name, "path": dg.MetadataValue.path(chosen.address)},
            tags={DATA_VERSION_TAG: chosen.manifest.data_version},
        )
    )
    return chosen


def retire(project: ProjectResource, *, keep: int | None, dry_run: bool) -> list[Removed]:
    """Remove versions beyond the newest `keep` (else as configured); current and used ones stay."""
    found = []
    for store in stores(project, None, ()):
        old = store.removable(keep or project.outputs(store.partition).keep)
        for name in sorted({*old, *store.refused()} - {store.current_name()}):
            size = store.bytes_of(name)
            in_use = not dry_run and not store.remove(name)
            found.append(Removed(store.asset, store.partition, name, size, in_use))
    for dataset, outputs in project.all_outputs().items():
        pruned = retire_vectors(outputs, dry_run=dry_run)
        found += [Removed("vectors", dataset, name, size, in_use) for name, size, in_use in pruned]
    return found


def verify(found: Iterator[VersionStore]) -> list[Verified]:
    """Hash every file of every version again."""
    results = []
    for store in found:
        for name in store.names():
            try:
                version = store.open(name)
                damage, sizes = version.damage(), [entry.bytes for entry in version.manifest.files]
            except StorageError as error:
                damage, sizes = [str(error)], []
            results.append(Verified(store.asset, store.partition, name, len(sizes), sum(sizes), damage))
    return results


def treat(project: ProjectResource, instance: dg.DagsterInstance) -> list[Treated]:
    """Put right what killed processes left: their runs, folders and pointers; name what a person must do."""
    treated = [
        Treated(f"run {run_id[:8]}: its process is gone", "failed it and freed what it held")
        for run_id in end_dead_runs(instance)
    ]
    treated += [Treated(problem, "mend the file", open=True) for problem in project.problems()]
    treated += _abandoned(project, instance)
    for store in stores(project, None, ()):
        treated += [Treated(f"{path}: left by a killed process", "removed it") for path in store.sweep()]
        treated += _mend_pointer(store)
    for name, outputs in project.all_outputs().items():
        out_root = outputs.folder
        swept = sweep_scratch(out_root / "scratch") + _sweep_trainings(project, name) + sweep_vectors(outputs)
        for path in swept:
            treated.append(Treated(f"{path}: left by a killed process", "removed it"))
        if out_root.exists() and (free := shutil.disk_usage(out_root).free) < LOW_DISK_BYTES:
            treated.append(
                Treated(f"{out_root}: only {free >> 20} MB are free", "`personarank gc`, or more space", open=True)
            )
        outputs.refresh_links()
    return treated


def _abandoned(project: ProjectResource, instance: dg.DagsterInstance) -> list[Treated]:
    return [
        Treated(
            f"{folder}: has versions of {name}, which is no dataset any more",
            f"{_removal(folder, name)}; a dataset called {name} with that out_root has them again",
            open=True,
        )
        for folder, name in abandoned_versions(project.mount, instance)
    ]


def _removal(folder: str, name: str) -> str:
    every = f"{folder}/*/{name}"
    return f"remove {every} from the store" if is_address(folder) else f"`rm -r {every}` removes them"


def tidy(project: ProjectResource) -> None:
    """Put right what an interrupted command leaves, of what takes no time; a training is kept, to be continued."""
    with suppress(PersonarankError):
        if os.environ.get("DAGSTER_HOME"):
            with dg.DagsterInstance.get() as instance:
                end_dead_runs(instance, interrupted=True)
        for name in dataset_names(project.mount.datasets_folder):
            sweep_scratch(project.dataset(name).data.out_root / "scratch")
            sweep_vectors(project.outputs(name))
        for store in stores(project, None, ()):
            store.sweep()


def _sweep_trainings(project: ProjectResource, dataset: str) -> list[Path]:
    """Remove unfinished trainings, but for the one that the next run continues; all stay while that is not known."""
    try:
        snapshot = take_snapshot(project, dataset)
        made_from = provenance(snapshot, ENCODER, current_inputs(project, snapshot, ENCODER))
        ways = product(("cpu", "cuda", "mps"), ("fp32", "bf16", "fp16"))
        resumable = {checkpoint_folder(snapshot, made_from, *way)[1] for way in ways}
    except StorageError:
        return []
    return sweep_scratch(project.dataset(dataset).data.out_root / "staging", keep=resumable)


def _listed(store: VersionStore, name: str) -> Listed:
    try:
        current = store.current_name() == name
    except StorageError:
        current = False
    try:
        version = store.open(name)
    except StorageError as error:
        return Listed(store.asset, store.partition, name, current, problem=str(error))
    manifest = version.manifest
    return Listed(
        asset=store.asset,
        partition=store.partition,
        version=name,
        current=current,
        created=f"{manifest.created:%Y-%m-%d %H:%M:%S}",
        run=manifest.run_id[:8],
        rows=manifest.details.get("rows"),
        bytes=version.bytes,
        data_version=manifest.data_version,
        refused=manifest.refusal or "",
    )


def _mend_pointer(store: VersionStore) -> list[Treated]:
    try:
        store.find_current()
        return []
    except StorageError as error:
        problem = str(error)
    refused = store.refused()
    for name in reversed([name for name in store.names() if name not in refused]):
        try:
            store.rollback(name, force=True)
        except StorageError:
            continue
        return [Treated(problem, f"pointed to {name}, the newest whole version")]
    return [Treated(problem, "no version is whole: materialise it again", open=True)]
