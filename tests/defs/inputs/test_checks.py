import pytest

from personarank_dagster.core.validation import Finding
from personarank_dagster.defs.inputs.checks import ALL_CHECKS, Evaluation


@pytest.mark.parametrize(
    ("finding", "summary"),
    [
        (Finding(1, 2, {"first_list": 2}, note="leave it out"), "1 of 2, first_list 2, leave it out"),
        (Finding(None, 0, note="no version before"), "no version before"),
        (Finding(0, 0), "nothing to look at"),
        (None, "needs personas, of which nothing is published"),
    ],
)
def test_a_summary_holds_the_numbers_and_what_to_do(finding: Finding | None, summary: str) -> None:
    assert Evaluation(ALL_CHECKS[0], finding).summary == summary


def test_a_check_of_nothing_is_not_checked_and_not_passed() -> None:
    results = [Evaluation(ALL_CHECKS[0], finding).result for finding in (Finding(0, 0), None, Finding(0, 1))]
    assert results == ["not checked", "not checked", "pass"]


def test_a_check_of_what_ingestion_counted_names_the_asset_that_it_needs() -> None:
    counted = next(check for check in ALL_CHECKS if not check.tables)
    assert Evaluation(counted, None).metadata == {
        "not checked": f"needs {counted.asset}, of which nothing is published"
    }
