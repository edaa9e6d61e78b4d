"""What a version was made from, and whether that still holds: that is what makes an asset stale."""

from collections.abc import Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import msgspec

from personarank_dagster.core.errors import StorageError
from personarank_dagster.defs.platform.declarations import declared
from personarank_dagster.defs.platform.lineage.snapshots import Snapshot
from personarank_dagster.defs.platform.partitions import UNPARTITIONED
from personarank_dagster.defs.platform.resources import ProjectResource
from personarank_dagster.storage.disk import content_hash
from personarank_dagster.storage.manifests import Provenance
from personarank_dagster.storage.versions import Version


@dataclass(frozen=True)
class Change:
    """Why the current version of an asset is not what a run would now give; `inputs` that changed, by name."""

    reason: str
    inputs: tuple[str, ...] = ()


def provenance(snapshot: Snapshot, asset: str, read: Mapping[str, Version]) -> Provenance:
    """What a version of the asset is made from, by what the run began with and the upstream versions that it read."""
    declaration = declared(asset)
    contents: dict[str, str] = {}
    settings: Mapping[str, object] = {}
    if snapshot.dataset is not None:
        contents = {name: snapshot.contents[name] for name in declaration.inputs_of(snapshot.dataset)}
        settings = declaration.settings(snapshot.dataset)
    data_versions = {name: version.manifest.data_version for name, version in read.items()}
    return Provenance(
        code_version=declaration.code_version,
        settings=msgspec.json.decode(msgspec.json.encode(settings, enc_hook=str)),
        inputs=dict(sorted((contents | data_versions).items())),
        versions={name: version.name for name, version in sorted(read.items())},
        lineage=lineage(read),
    )


def lineage(read: Mapping[str, Version]) -> dict[str, str]:
    """Data versions of all assets behind what was read; both where two of them are by different ones."""
    found: dict[str, set[str]] = {}
    for name, version in read.items():
        behind = {name: version.manifest.data_version} | version.manifest.provenance.lineage
        for asset, data_version in behind.items():
            found.setdefault(asset, set()).update(data_version.split(" and "))
    return {asset: " and ".join(sorted(versions)) for asset, versions in sorted(found.items())}


def current_inputs(project: ProjectResource, snapshot: Snapshot, asset: str) -> dict[str, Version]:
    """Current versions of what the asset is made from, by the names that its provenance has for them."""
    partition = snapshot.partition
    outputs = project.all_outputs() if partition == UNPARTITIONED else {partition: project.outputs(partition)}
    found: dict[str, Version] = {}
    for upstream, (key, of_dataset) in product(declared(asset).reads(snapshot.dataset), outputs.items()):
        # What one dataset lost costs no other, nor what is made of all of them.
        with suppress(StorageError) if partition == UNPARTITIONED else nullcontext():
            if version := of_dataset.versions(upstream).find_current():
                found[upstream if key == partition else f"{upstream}[{key}]"] = version
    return found


def change_of(project: ProjectResource, snapshot: Snapshot, asset: str) -> Change | None:
    """Why the asset's current version is not what a run would now give; None if it is."""
    store = snapshot.outputs.versions(asset)
    now = provenance(snapshot, asset, current_inputs(project, snapshot, asset))
    newest, current = store.newest(), store.find_current()
    if newest and newest.manifest.refusal and not _difference(newest, now):
        return Change(f"refused: {newest.manifest.refusal}")
    if current is None:
        return Change("never materialised", tuple(now.inputs))
    return _difference(current, now)


def stale_reason(project: ProjectResource, snapshot: Snapshot, asset: str) -> str | None:
    """`change_of` in words."""
    change = change_of(project, snapshot, asset)
    return change.reason if change else None


def _difference(version: Version, now: Provenance) -> Change | None:
    if version.manifest.checks is None:
        return Change("made by an earlier release, whose versions hold no verdict of their checks")
    made_from = version.manifest.provenance
    if made_from.code_version != now.code_version:
        return Change("its code changed")
    if settings := _changed(made_from.settings, now.settings):
        return Change("its settings changed: " + ", ".join(settings))
    if inputs := _changed(made_from.inputs, now.inputs):
        return Change(f"{', '.join(inputs)} changed", tuple(inputs))
    return None


def _changed(before: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    return [name for name in sorted(before.keys() | now.keys()) if before.get(name) != now.get(name)]


def checkpoint_folder(snapshot: Snapshot, made_from: Provenance, device: str, precision: str) -> tuple[Path, str]:
    """Folder of unfinished trainings, and the name of this one: another input, setting or code has another name."""
    decides = (made_from.code_version, sorted(made_from.settings.items()), sorted(made_from.inputs.items()))
    name = content_hash(repr(decides), device, precision)
    return snapshot.outputs.folder / "staging", f"trained_encoder-{name[:16]}"
