"""One step of a run: what its asset is given, what it reads, and how it hands over its value."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import dagster as dg
import msgspec

from personarank_dagster.configuration.dataset import DatasetConfig
from personarank_dagster.core.errors import InputError
from personarank_dagster.core.quantities import with_units
from personarank_dagster.defs.platform.declarations import RAW, Declaration, declared
from personarank_dagster.defs.platform.figures import Draw, drawn
from personarank_dagster.defs.platform.io.outputs import Outputs
from personarank_dagster.defs.platform.lineage.provenance import provenance
from personarank_dagster.defs.platform.lineage.snapshots import Sight, Snapshot, check_contents, content_of, model_of
from personarank_dagster.defs.platform.published_checks import CPU, Published
from personarank_dagster.defs.platform.resources import GpuResource, ProjectResource
from personarank_dagster.raw.bad_lines import write_quarantine
from personarank_dagster.raw.files import RawFiles
from personarank_dagster.storage.manifests import Provenance, Verdict
from personarank_dagster.storage.versions import Staged


@dataclass(frozen=True)
class Handed:
    """What an asset hands over to the IO manager: its value, what that was made from, who judges it, its numbers."""

    value: Any
    data_version: str
    made_from: Provenance
    judge: Callable[[Staged], Sequence[Verdict]]
    numbers: Mapping[str, int | float] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """The step of an asset."""

    context: dg.AssetExecutionContext
    sight: Sight
    # Contents by their names that this step found, and no run begins with: of models of the hub that it pinned, and
    # of raw files that the same run may have made of assets of others.
    pinned: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, context: dg.AssetExecutionContext, project: ProjectResource) -> "Step":
        """The step that is running. Raises InputError if what it reads is not what the run began with."""
        step = cls(context, Sight.of(project, context))
        step.pin_given()
        step.check_contents()
        return step

    @property
    def declaration(self) -> Declaration:
        """How the asset is declared."""
        return declared(self.context.asset_key.path[-1])

    @property
    def name(self) -> str:
        """Name for messages."""
        return f"{self.declaration.name} ({self.snapshot.partition})"

    @property
    def snapshot(self) -> Snapshot:
        """What the run began with."""
        return self.sight.snapshot

    @property
    def config(self) -> DatasetConfig:
        """Settings of the dataset, as they were when the run began."""
        return self.snapshot.config

    @property
    def outputs(self) -> Outputs:
        """Outputs of the dataset."""
        return self.snapshot.outputs

    def revision_of(self, name: str) -> str | None:
        """Revision to load a model with, by its name in the snapshot; one of the hub is pinned at its first use."""
        from personarank_dagster.encoding.model_contents import model_content, pinned_commit

        model, out_root = model_of(self.config, name), self.config.data.out_root
        configured = self.config.revision_of(model)
        commit = pinned_commit(model, configured, out_root)
        if commit is None:
            return None
        self.pinned[name] = model_content(model, configured, out_root)
        if commit != configured:
            self.context.log.info(f"{model} is pinned to commit {commit}; set st_revision to choose another")
        return commit

    def raw_files(self) -> RawFiles:
        """The raw files of the dataset."""
        return RawFiles(self.config.data)

    def set_aside(self, raw: RawFiles) -> dict[str, Any]:
        """Write the bad lines of all files that were read to the asset's quarantine; metadata that says where."""
        quarantine = self.outputs.folder / "quarantine" / f"{self.declaration.name}.jsonl"
        write_quarantine(raw.bad_lines, quarantine)
        return {"quarantine": dg.MetadataValue.path(str(quarantine))} if raw.bad_lines else {}

    def made_from(self) -> Provenance:
        """What the step's output is made from."""
        read = [self.sight.versions(upstream) for upstream in self.declaration.reads(self.snapshot.dataset)]
        snapshot = msgspec.structs.replace(self.snapshot, contents=self.snapshot.contents | self.pinned)
        return provenance(
            snapshot, self.declaration.name, {name: one for of_asset in read for name, one in of_asset.items()}
        )

    def pin_given(self) -> None:
        """Take the raw files that are copies of assets of others as they are now."""
        if self.snapshot.dataset is not None:
            given = {f"{RAW}/{key}" for key in self.config.given}.intersection(
                self.declaration.inputs_of(self.config)
            )
            self.pinned.update({name: content_of(self.config, name) for name in given})
            for name in (name for name in given if not self.pinned[name]):
                theirs = self.sight.project.mount.raw_assets[name.removeprefix(f"{RAW}/")].to_user_string()
                raise InputError(
                    f"{self.name}: needs {name}, of which nothing is copied from {theirs} yet; materialise {name}"
                )

    def check_contents(self) -> None:
        """Raise InputError if a raw file or a model that the step reads changed since the run, or the step, began."""
        if self.snapshot.dataset is not None:
            names, expected = self.declaration.inputs_of(self.config), self.snapshot.contents | self.pinned
            check_contents(self.config, {name: expected[name] for name in names})

    def result(
        self,
        value: Any,
        metadata: Mapping[str, Any],
        gpu: GpuResource | None = None,
        *,
        pictures: Mapping[str, Draw] = MappingProxyType({}),
    ) -> dg.MaterializeResult[Any]:
        """The value with its content hash as data version; in the metadata the pictures that can be drawn come first.

        Checks that need a device judge it with `gpu`.
        """
        self.check_contents()
        version = self.outputs.format(self.declaration.name).version_of(value)
        numbers = {name: _rounded(found) for name, found in metadata.items() if isinstance(found, int | float)}
        handed = Handed(value, version, self.made_from(), lambda staged: self._judge(staged, gpu), numbers)
        shown = drawn(pictures, lambda problem: self.context.log.warning(f"{self.name}: {problem}"))
        return dg.MaterializeResult(
            value=handed, metadata=shown | with_units(metadata), data_version=dg.DataVersion(version)
        )

    def _judge(self, staged: Staged, gpu: GpuResource | None) -> list[Verdict]:
        subject = Published(self.sight, gpu or CPU, {self.declaration.name: staged})
        found = [(check.name, check.find(subject)) for check in self.declaration.checks if check.blocking]
        return [Verdict(name, one.passed, one.numbers) for name, one in found]


def left_out(reasons: Mapping[str, int]) -> dict[str, int]:
    """Metadata: how many rows an asset leaves out, in all and by reason."""
    return {"left_out": sum(reasons.values())} | {f"left out: {why}": count for why, count in reasons.items()}


def _rounded(value: float) -> float:
    """Six digits of a number, which is more than anybody reads."""
    return float(f"{value:.6g}") if isinstance(value, float) else value
