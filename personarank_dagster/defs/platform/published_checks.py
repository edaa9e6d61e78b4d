"""What a check is given, and how Dagster sees it: a verdict that a version has, or a look at it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import dagster as dg
import polars as pl
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData,
)

from personarank_dagster.configuration.dataset import DatasetConfig
from personarank_dagster.core.errors import PersonarankError
from personarank_dagster.core.quantities import with_units
from personarank_dagster.core.validation import Limits
from personarank_dagster.defs.platform.declarations import Check, Found, asset_names, declared, with_resources
from personarank_dagster.defs.platform.lineage.snapshots import Sight, take_snapshot
from personarank_dagster.defs.platform.mounts import Mount
from personarank_dagster.defs.platform.resources import GpuResource, ProjectResource
from personarank_dagster.storage.versions import Staged, Version

# For checks of what no device made.
CPU = GpuResource(device="cpu", devices=0, precision="fp32", memory_share=1.0)

NOT_CHECKED: Literal["not checked"] = "not checked"


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
    sight = _sight_now(project, partition)
    last = {asset: sight.snapshot.outputs.versions(asset).newest() for asset in asset_names(partitioned=True)}
    refused = {asset: version for asset, version in last.items() if version and version.manifest.refusal}
    return Published(sight, CPU, refused)


def data_limits(config: DatasetConfig) -> Limits:
    """What the dataset configures for the checks of its data."""
    from personarank_dagster.encoding.tokens.counter import token_counter

    return Limits(
        min_coverage=config.data.min_coverage,
        max_drift=config.data.max_drift,
        max_len=config.train.max_len,
        template=config.template,
        count_tokens=token_counter(config.train.st_path, config.train.st_revision),
    )


def asset_check(check: Check, mount: Mount) -> dg.AssetChecksDefinition:
    """The check in Dagster, for each dataset. A blocking one says what the verdict of the version is."""

    def evaluate(
        context: dg.AssetCheckExecutionContext, project: ProjectResource, gpu: GpuResource
    ) -> dg.AssetCheckResult:
        def of_dataset(name: str) -> dg.AssetCheckResult:
            sight = Sight.of(project, context) if context.has_partition_key else _sight_now(project, name)
            found = _look(Published(sight, gpu), check)
            severity = found.severity or check.severity
            return dg.AssetCheckResult(passed=found.passed, severity=severity, metadata=with_units(found.numbers))

        return of_each_dataset(context, project.mount.datasets, of_dataset)

    return mounted_check(
        evaluate,
        mount,
        check.asset,
        name=check.name,
        additional_deps=mount.keys(check.needs),
        blocking=check.blocking,
        description=check.description,
    )


def mounted_check(
    evaluate: Callable[..., dg.AssetCheckResult], mount: Mount, asset: str, **options: Any
) -> dg.AssetChecksDefinition:
    """A check of an asset in a code location, for each dataset."""
    given = with_resources(evaluate, mount)
    return dg.asset_check(
        asset=mount.key(asset),
        partitions_def=mount.partitions,
        required_resource_keys=given.keys,
        **options,
    )(given.body)


def of_each_dataset(
    context: dg.AssetCheckExecutionContext,
    datasets: Sequence[str],
    evaluate: Callable[[str], dg.AssetCheckResult],
) -> dg.AssetCheckResult:
    """The evaluation of the run's dataset; where the run has none, those of all datasets, and one of all of them.

    *Execute all* of the UI launches the checks of a partitioned asset without a partition, and cannot ask for one.
    """
    if context.has_partition_key:
        return evaluate(context.partition_key)
    results = {name: _or_the_reason(evaluate, name) for name in datasets}
    for name, result in results.items():
        context.instance.report_dagster_event(_evaluation(context, name, result), run_id=context.run.run_id)
    failed = [one for one in results.values() if not one.passed and one.severity == dg.AssetCheckSeverity.ERROR]
    return ResultOfAll(
        passed=all(one.passed for one in results.values()),
        severity=dg.AssetCheckSeverity.ERROR if failed else dg.AssetCheckSeverity.WARN,
        metadata={name: _in_words(one) for name, one in results.items()},
    )


class ResultOfAll(dg.AssetCheckResult):
    """Result of a run without a partition: Dagster would ask for the materialisation that was judged, of none."""

    def to_asset_check_evaluation(self, step_context: Any) -> dg.AssetCheckEvaluation:
        """The evaluation, of no materialisation."""
        (key,) = step_context.job_def.asset_layer.get_assets_def_for_node(step_context.node_handle).check_keys
        return dg.AssetCheckEvaluation(
            key.asset_key, key.name, self.passed, metadata=self.metadata, severity=self.severity
        )


def not_checked(reason: str) -> Found:
    """What a check finds where there is nothing to look at."""
    return Found(False, {NOT_CHECKED: reason}, dg.AssetCheckSeverity.WARN)


def _sight_now(project: ProjectResource, partition: str) -> Sight:
    return Sight(project, take_snapshot(project, partition), run_id="")


def _look(published: Published, check: Check) -> Found:
    if not declared(check.asset).is_made(published.config):
        return Found(True, {NOT_CHECKED: f"{published.partition} has no {check.asset}"})
    missing = [asset for asset in (check.asset, *check.needs) if published.find(asset) is None]
    if missing:
        return not_checked(f"needs {', '.join(missing)}, of which nothing is published")
    return verdict_of(published, check) or check.find(published)


def _or_the_reason(evaluate: Callable[[str], dg.AssetCheckResult], dataset: str) -> dg.AssetCheckResult:
    """The evaluation of one dataset of several: what is wrong with one must not cost the others theirs."""
    try:
        return evaluate(dataset)
    except PersonarankError as error:
        return dg.AssetCheckResult(passed=False, metadata={NOT_CHECKED: str(error)})


def _in_words(result: dg.AssetCheckResult) -> str:
    if reason := result.metadata.get(NOT_CHECKED):
        return f"not checked: {reason.value}"
    return "passed" if result.passed else "warned" if result.severity == dg.AssetCheckSeverity.WARN else "failed"


def _evaluation(context: dg.AssetCheckExecutionContext, dataset: str, result: dg.AssetCheckResult) -> dg.DagsterEvent:
    """The event of one dataset's evaluation in a run that has no partition."""
    key = next(iter(context.selected_asset_check_keys))
    evaluation = dg.AssetCheckEvaluation(
        key.asset_key,
        key.name,
        result.passed,
        metadata=result.metadata,
        target_materialization_data=_judged_materialization(context.instance, key.asset_key, dataset),
        severity=result.severity,
        partition=dataset,
    )
    return dg.DagsterEvent(
        event_type_value=dg.DagsterEventType.ASSET_CHECK_EVALUATION.value,
        job_name=context.run.job_name,
        event_specific_data=evaluation,
    )


def _judged_materialization(
    instance: dg.DagsterInstance, asset: dg.AssetKey, dataset: str
) -> AssetCheckEvaluationTargetMaterializationData | None:
    of_dataset = dg.AssetRecordsFilter(asset_key=asset, asset_partitions=[dataset])
    records = instance.fetch_materializations(of_dataset, limit=1).records
    if not records:
        return None
    last = records[0]
    return AssetCheckEvaluationTargetMaterializationData(
        storage_id=last.storage_id, run_id=last.run_id, timestamp=last.timestamp
    )


def verdict_of(published: Published, check: Check) -> Found | None:
    """What the check found before the version became current, if it judged that version."""
    version = published.find(check.asset)
    verdicts = {one.check: one for one in (version and version.manifest.checks) or ()}
    verdict = verdicts.get(check.name)
    return Found(verdict.passed, verdict.numbers) if verdict else None
