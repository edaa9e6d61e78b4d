import pytest

from personarank_dagster.core.validation import Finding
from personarank_dagster.defs.inputs.checks import ALL_CHECKS, Evaluation


@pytest.mark.parametrize(
    ("finding", "summary"),
    [
        (Finding(1, 2, {"first_list": 2}, note="leave it out"), "1 of 2, first_list 2, leave it out"),
        (Finding(None, 0, note="no version before"), "no version before"),
        (None, "not checked: needs personas"),
    ],
)
def test_a_summary_holds_the_numbers_and_what_to_do(finding: Finding | None, summary: str) -> None:
    assert Evaluation(ALL_CHECKS[0], finding).summary == summary
