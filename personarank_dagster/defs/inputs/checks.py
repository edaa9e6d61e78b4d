"""Data validation as asset checks: every check of `core.validation`, for each dataset."""

from dataclasses import dataclass
from typing import Any, Literal

import dagster as dg

from personarank_dagster.core.data_checks import DataCheck, data_checks
from personarank_dagster.core.texts import TextTemplate
from personarank_dagster.core.validation import PREVIOUS, Finding, Limits
from personarank_dagster.defs.platform.declarations import Check, Found
from personarank_dagster.defs.platform.published_checks import Published, data_limits


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


def evaluate(published: Published, name: str) -> Evaluation:
    """Evaluate one check on the versions that are published."""
    check = next(check for check in data_checks(data_limits(published.config)) if check.name == name)
    version = published.find(check.asset)
    if version is None or not all(map(published.find, check.tables)):
        return Evaluation(check, None)
    tables = {asset: published.table(asset) for asset in check.tables}
    if check.drift:
        previous = published.previous_table(check.asset)
        if previous is None:
            return Evaluation(check, Finding(None, 0, note="no version before"))
        tables[PREVIOUS] = previous
    return Evaluation(check, check.finding(tables, version.manifest.details))


def _short(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _check(check: DataCheck) -> Check:
    """The check as one of its asset: a failure is an error where results would lie, else a warning."""

    def find(published: Published) -> Found:
        found = evaluate(published, check.name)
        severity = dg.AssetCheckSeverity.ERROR if found.is_error else dg.AssetCheckSeverity.WARN
        return Found(found.passed, found.metadata, severity)

    return Check(
        name=check.name,
        asset=check.asset,
        find=find,
        description=check.description,
        needs=tuple(table for table in check.tables if table != check.asset),
        blocking=check.blocking,
    )


def checks_of(asset: str) -> tuple[Check, ...]:
    """All checks of the data of an asset."""
    return tuple(_check(check) for check in ALL_CHECKS if check.asset == asset)


# The names do not depend on the configured limits; each evaluation takes its dataset's own.
ALL_CHECKS = data_checks(Limits(min_coverage=1.0, max_drift=0.0, max_len=1, template=TextTemplate("amazon")))
CHECK_NAMES = [check.name for check in ALL_CHECKS]
