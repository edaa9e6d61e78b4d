"""The versions that a run sees."""

from dataclasses import dataclass

import dagster as dg

from personarank_dagster.core.errors import StorageError
from personarank_dagster.defs.platform.declarations import declared
from personarank_dagster.defs.platform.outputs import Outputs
from personarank_dagster.defs.platform.partitions import UNPARTITIONED
from personarank_dagster.defs.platform.resources import ProjectResource
from personarank_dagster.defs.platform.snapshots import Snapshot, begun_with
from personarank_dagster.storage.versions import Version

# Contexts of Dagster that know their run: of an asset, a check, an input, an output.
Context = dg.AssetExecutionContext | dg.AssetCheckExecutionContext | dg.InputContext | dg.OutputContext


@dataclass(frozen=True)
class Sight:
    """The versions that a run sees of a partition: those that it made itself, else those that it began with."""

    project: ProjectResource
    snapshot: Snapshot
    run_id: str

    @classmethod
    def of(cls, project: ProjectResource, context: Context) -> "Sight":
        """What the run of this context sees of the partition of this context."""
        partition = context.partition_key if context.has_partition_key else UNPARTITIONED
        if isinstance(context, dg.AssetExecutionContext | dg.AssetCheckExecutionContext):
            run, instance = context.run, context.instance
        else:
            run, instance = context.step_context.dagster_run, context.step_context.instance
        return cls(project, begun_with(project, instance, run, partition), run.run_id)

    def versions(self, asset: str) -> dict[str, Version]:
        """The versions of an upstream asset, by the names that provenance has for them. None is there twice."""
        if self.snapshot.partition != UNPARTITIONED:
            return {asset: self.version(asset)}
        names = {key: f"{asset}[{key}]" for key in declared(asset).partitions()}
        seen = {name: self._find(self.project.outputs(key), asset, name) for key, name in names.items()}
        return {name: version for name, version in seen.items() if version}

    def version(self, asset: str) -> Version:
        """The version of an asset of this partition. Raises StorageError if there is none that was judged."""
        version = self._find(self.snapshot.outputs, asset, asset)
        if version is None:
            raise StorageError(f"{asset} ({self.snapshot.partition}): nothing published; materialise it first")
        if version.manifest.checks is None:
            raise StorageError(
                f"{asset} ({self.snapshot.partition}): {version.name} was made by an earlier release, without a "
                f"verdict of its checks; `personarank run --partition {self.snapshot.partition}` makes it anew"
            )
        return version

    def find(self, asset: str) -> Version | None:
        """As `version`, but None where nothing was ever published."""
        return self._find(self.snapshot.outputs, asset, asset)

    def _find(self, outputs: Outputs, asset: str, name: str) -> Version | None:
        store = outputs.versions(asset)
        began_with = self.snapshot.versions.get(name)
        return store.made_by(self.run_id) or (store.open(began_with) if began_with else None)
