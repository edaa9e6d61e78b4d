"""Checks of outputs after they were published: what such a check is given, what it finds, how Dagster sees it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
import polars as pl

from personarank_dagster.configuration.dataset import DatasetConfig
from personarank_dagster.core.validation import Limits
from personarank_dagster.defs.platform.partitions import dataset_partitions
from personarank_dagster.defs.platform.resources import GpuResource, ProjectResource
from personarank_dagster.storage.versions import Version


@dataclass(frozen=True)
class Found:
    """Whether a check's name is true, and the numbers behind it."""

    passed: bool
    numbers: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Published:
    """The current versions of one dataset, and the device to look at them with."""

    project: ProjectResource
    gpu: GpuResource
    partition: str

    @property
    def config(self) -> DatasetConfig:
        """Configuration of the dataset."""
        return self.project.dataset(self.partition)

    def version(self, asset: str) -> Version:
        """Current version of an asset."""
        return self.project.versions(asset, self.partition).current()

    def table(self, asset: str) -> pl.LazyFrame:
        """Its table, as it lies on disk."""
        table: pl.LazyFrame = self.project.format(asset, self.partition).read(
            self.version(asset).directory, lazy=True
        )
        return table.lazy()


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


def published_check(
    asset: str,
    check: Callable[[Published], Found],
    *,
    name: str,
    description: str | None,
    needs: tuple[str, ...] = (),
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR,
    blocking: bool = False,
) -> dg.AssetChecksDefinition:
    """An asset check, for each dataset, of what is published; it also reads the assets that it `needs`.

    If a blocking one fails, nothing is made from the asset.
    """

    @dg.asset_check(
        name=name,
        asset=asset,
        additional_deps=list(needs),
        partitions_def=dataset_partitions,
        blocking=blocking,
        description=description,
    )
    def asset_check(
        context: dg.AssetCheckExecutionContext, project: ProjectResource, gpu: GpuResource
    ) -> dg.AssetCheckResult:
        found = check(Published(project, gpu, context.partition_key))
        return dg.AssetCheckResult(passed=found.passed, severity=severity, metadata=found.numbers)

    return asset_check
