"""What a check is given, and how Dagster sees it: a verdict that a version has, or a look at it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import dagster as dg
import polars as pl

from personarank_dagster.configuration.dataset import DatasetConfig
from personarank_dagster.core.validation import Limits
from personarank_dagster.defs.platform.declarations import Check, Found, asset_names
from personarank_dagster.defs.platform.partitions import dataset_partitions
from personarank_dagster.defs.platform.resources import GpuResource, ProjectResource
from personarank_dagster.defs.platform.snapshots import Sight, take_snapshot
from personarank_dagster.storage.versions import Staged, Version

# For checks of what no device made.
CPU = GpuResource(device="cpu", devices=0, precision="fp32", memory_share=1.0)


@dataclass(frozen=True)
class Published:
    """The versions of one dataset that a check looks at, and the device to look at them with.

    Of the assets among `judged` it is that version, of others the one that the run sees.
    """

    sight: Sight
    gpu: GpuResource
    judged: Mapping[str, Version | Staged] = field(default_factory=dict)

    @property
    def partition(self) -> str:
        """Name of the dataset."""
        return self.sight.snapshot.partition

    @property
    def config(self) -> DatasetConfig:
        """Configuration of the dataset."""
        return self.sight.snapshot.config

    def version(self, asset: str) -> Version | Staged:
        """The version of an asset."""
        return self.judged.get(asset) or self.sight.version(asset)

    def find(self, asset: str) -> Version | Staged | None:
        """As `version`, but None where there is none."""
        return self.judged.get(asset) or self.sight.find(asset)

    def table(self, asset: str) -> pl.LazyFrame:
        """Its table, as it lies on disk."""
        return self._table(asset, self.version(asset))

    def previous_table(self, asset: str) -> pl.LazyFrame | None:
        """The table of the version before it; None where there is none."""
        name = self.version(asset).manifest.version
        before = self.sight.snapshot.outputs.versions(asset).previous(name)
        return self._table(asset, before) if before else None

    def _table(self, asset: str, version: Version | Staged) -> pl.LazyFrame:
        table: pl.LazyFrame = self.sight.snapshot.outputs.format(asset).read(version.directory, lazy=True)
        return table.lazy()


def newest(project: ProjectResource, partition: str) -> Published:
    """What is published of a dataset now; of an asset whose last version was refused, that one."""
    sight = Sight(project, take_snapshot(project, partition), run_id="")
    last = {asset: sight.snapshot.outputs.versions(asset).newest() for asset in asset_names(partitioned=True)}
    refused = {asset: version for asset, version in last.items() if version and version.manifest.refusal}
    return Published(sight, CPU, refused)


def data_limits(config: DatasetConfig) -> Limits:
    """What the dataset configures for the checks of its data."""
    from personarank_dagster.encoding.tokenizer import token_counter

    return Limits(
        min_coverage=config.data.min_coverage,
        max_drift=config.data.max_drift,
        max_len=config.train.max_len,
        template=config.template,
        count_tokens=token_counter(config.train.st_path, config.train.st_revision),
    )


def asset_check(check: Check) -> dg.AssetChecksDefinition:
    """The check in Dagster, for each dataset. A blocking one says what the verdict of the version is."""

    @dg.asset_check(
        name=check.name,
        asset=check.asset,
        additional_deps=list(check.needs),
        partitions_def=dataset_partitions,
        blocking=check.blocking,
        description=check.description,
    )
    def evaluate(
        context: dg.AssetCheckExecutionContext, project: ProjectResource, gpu: GpuResource
    ) -> dg.AssetCheckResult:
        published = Published(Sight.of(project, context), gpu)
        found = verdict_of(published, check) or check.find(published)
        severity = found.severity or check.severity
        return dg.AssetCheckResult(passed=found.passed, severity=severity, metadata=found.numbers)

    return evaluate


def verdict_of(published: Published, check: Check) -> Found | None:
    """What the check found before the version became current, if it judged that version."""
    version = published.find(check.asset)
    verdicts = {one.check: one for one in (version and version.manifest.checks) or ()}
    verdict = verdicts.get(check.name)
    return Found(verdict.passed, verdict.numbers) if verdict else None
