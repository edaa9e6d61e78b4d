"""Data validation as asset checks: every check of `core.validation`, for each dataset."""

from dataclasses import dataclass
from typing import Any, Literal

import dagster as dg

from personarank_dagster.core.data_checks import DataCheck, data_checks
from personarank_dagster.core.quantities import in_units
from personarank_dagster.core.texts import TextTemplate
from personarank_dagster.core.validation import PREVIOUS, Finding, Limits
from personarank_dagster.defs.platform.declarations import Check, Found
from personarank_dagster.defs.platform.published_checks import NOT_CHECKED, Published, data_limits


@dataclass(frozen=True)
class Evaluation:
    """A check with what it found; without a finding where tables that it needs are missing."""

    check: DataCheck
    finding: Finding | None
    missing: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the check's name is true, as far as can be said."""
        return self.finding is not None and self.check.passed(self.finding)

    @property
    def is_error(self) -> bool:
        """Whether a failure is an error: where results would lie, and not merely where nothing could be checked."""
        return self.check.blocking and self.finding is not None

    @property
    def result(self) -> Literal["pass", "warn", "fail", "not checked"]:
        """The result in a word or two."""
        if self.unchecked:
            return NOT_CHECKED
        return "pass" if self.passed else "fail" if self.is_error else "warn"

    @property
    def unchecked(self) -> str:
        """Why nothing was checked; empty where something was."""
        if self.finding is None:
            return f"needs {', '.join(self.missing or self.check.needed)}, of which nothing is published"
        return "" if self.finding.total else self.finding.note or "nothing to look at"

    @property
    def summary(self) -> str:
        """The number behind it, for a person."""
        if self.finding is None or self.unchecked:
            return self.unchecked
        bad = [] if self.finding.bad is None else [f"{self.finding.bad:,} of {self.finding.total:,}"]
        numbers = [f"{name} {in_units(name, value)}" for name, value in self.finding.numbers.items()]
        note = [self.finding.note] if self.finding.note else []
        return ", ".join(bad + numbers + note)

    @property
    def metadata(self) -> dict[str, Any]:
        """The numbers behind it."""
        if self.finding is None or self.unchecked:
            return {NOT_CHECKED: self.unchecked}
        found = {} if self.finding.bad is None else {"bad": self.finding.bad, "share": self.finding.share}
        note = {"note": self.finding.note} if self.finding.note else {}
        return {**found, "total": self.finding.total, **self.finding.numbers, **note}


def evaluate(published: Published, name: str) -> Evaluation:
    """Evaluate one check on the versions that are published."""
    check = next(check for check in data_checks(data_limits(published.config)) if check.name == name)
    version = published.find(check.asset)
    missing = tuple(asset for asset in check.needed if published.find(asset) is None)
    if version is None or missing:
        return Evaluation(check, None, missing)
    tables = {asset: published.table(asset) for asset in check.tables}
    if check.drift:
        previous = published.previous_table(check.asset)
        if previous is None:
            return Evaluation(check, Finding(None, 0, note="no version before"))
        tables[PREVIOUS] = previous
    return Evaluation(check, check.finding(tables, version.manifest.details))


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
