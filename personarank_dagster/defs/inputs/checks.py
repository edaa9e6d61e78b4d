"""Data validation as asset checks: every check of `core.validation`, for each dataset."""

from dataclasses import dataclass
from typing import Any, Literal

import dagster as dg
import polars as pl

from personarank_dagster.core.texts import TextTemplate
from personarank_dagster.core.validation import PREVIOUS, DataCheck, Finding, Limits, data_checks
from personarank_dagster.defs.platform.partitions import dataset_partitions
from personarank_dagster.defs.platform.published_checks import data_limits
from personarank_dagster.defs.platform.resources import ProjectResource


@dataclass(frozen=True)
class Evaluation:
    """A check with what it found; without a finding if a table that it needs was never materialised."""

    check: DataCheck
    finding: Finding | None

    @property
    def passed(self) -> bool:
        """Whether the check's name is true, as far as can be said."""
        return self.finding is not None and self.check.passed(self.finding)

    @property
    def is_error(self) -> bool:
        """Whether a failure is an error: where results would lie, and not merely where nothing could be checked."""
        return self.check.blocking and self.finding is not None

    @property
    def result(self) -> Literal["pass", "warn", "fail"]:
        """The result in one word."""
        return "pass" if self.passed else "fail" if self.is_error else "warn"

    @property
    def summary(self) -> str:
        """The number behind it, for a person."""
        if self.finding is None:
            return f"not checked: needs {', '.join(self.check.tables)}"
        bad = [] if self.finding.bad is None else [f"{self.finding.bad:,} of {self.finding.total:,}"]
        numbers = [f"{name} {_short(value)}" for name, value in self.finding.numbers.items()]
        note = [self.finding.note] if self.finding.note else []
        return ", ".join(bad + numbers + note)

    @property
    def metadata(self) -> dict[str, Any]:
        """The numbers behind it."""
        if self.finding is None:
            return {"not checked": f"needs {', '.join(self.check.tables)}"}
        found = {} if self.finding.bad is None else {"bad": self.finding.bad, "share": self.finding.share}
        note = {"note": self.finding.note} if self.finding.note else {}
        return {**found, "total": self.finding.total, **self.finding.numbers, **note}


def evaluate(project: ProjectResource, partition: str, name: str) -> Evaluation:
    """Evaluate one check on the current versions of its tables."""
    config = project.dataset(partition)
    check = next(check for check in data_checks(data_limits(config)) if check.name == name)
    versions = {asset: project.versions(asset, partition).find_current() for asset in {check.asset, *check.tables}}
    found = {asset: version for asset, version in versions.items() if version}
    if len(found) < len(versions):
        return Evaluation(check, None)
    tables: dict[str, pl.LazyFrame] = {
        asset: project.format(asset, partition).read(found[asset].directory, lazy=True) for asset in check.tables
    }
    if check.drift:
        previous = project.versions(check.asset, partition).previous()
        if previous is None:
            return Evaluation(check, Finding(None, 0, note="no version before"))
        tables[PREVIOUS] = project.format(check.asset, partition).read(previous.directory, lazy=True)
    return Evaluation(check, check.finding(tables, found[check.asset].manifest.details))


def _short(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _severity(found: Evaluation) -> dg.AssetCheckSeverity:
    return dg.AssetCheckSeverity.ERROR if found.is_error else dg.AssetCheckSeverity.WARN


def _asset_check(check: DataCheck) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        name=check.name,
        asset=check.asset,
        additional_deps=[table for table in check.tables if table != check.asset],
        partitions_def=dataset_partitions,
        blocking=check.blocking,
        description=check.description,
    )
    def asset_check(context: dg.AssetCheckExecutionContext, project: ProjectResource) -> dg.AssetCheckResult:
        found = evaluate(project, context.partition_key, check.name)
        return dg.AssetCheckResult(passed=found.passed, severity=_severity(found), metadata=found.metadata)

    return asset_check


# The names do not depend on the configured limits; each evaluation takes its dataset's own.
ALL_CHECKS = data_checks(Limits(min_coverage=1.0, max_drift=0.0, max_len=1, template=TextTemplate("amazon")))
CHECK_NAMES = [check.name for check in ALL_CHECKS]
input_checks = [_asset_check(check) for check in ALL_CHECKS]
