"""What a run ends with, in words."""

import pytest

from personarank_dagster.command_line.reports.run_results import show_check_results, verdict
from personarank_dagster.defs.automation.runs import CheckResult

ROW = {"metric": "NDCG", "k": 10, "lift": 0.598, "lift_low": 0.422, "lift_high": 0.824}
ROW |= {"personal_lift": 0.1, "personal_low": -0.05, "personal_high": 0.2}
ROW |= {"persona_lift": None, "persona_low": None, "persona_high": None}


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.01, 0.3, "a gain that chance does not explain"),
        (-0.3, -0.01, "a loss that chance does not explain"),
        (-0.01, 0.3, "no gain that chance does not explain"),
        (0.0, 0.3, "no gain that chance does not explain"),
    ],
)
def test_a_lift_is_a_gain_where_its_interval_is_above_zero(low: float, high: float, words: str) -> None:
    assert verdict(ROW | {"lift_low": low, "lift_high": high})[0].endswith(f": {words}")


def test_a_verdict_says_the_lift_its_interval_and_whether_it_is_personal() -> None:
    gain, personal = verdict(ROW)
    assert gain == "NDCG@10 +59.8 % [+42.2, +82.4]: a gain that chance does not explain"
    assert personal.endswith("(shuffled) +10.0 % [-5.0, +20.0]: not shown to be personal")
    assert verdict(ROW | {"personal_low": 0.01})[1].endswith("what is gained is personal")


def test_a_learned_blend_is_also_held_against_one_without_personas() -> None:
    learned = ROW | {"persona_lift": 0.2, "persona_low": 0.1, "persona_high": 0.3}
    assert verdict(learned)[2] == "over a blend learned without personas +20.0 % [+10.0, +30.0]: personas add to it"
    assert verdict(learned | {"persona_low": -0.1})[2].endswith(": not shown that personas add to it")


def test_an_order_with_no_hit_has_no_lift() -> None:
    assert verdict(ROW | {"lift": None}) == ["NDCG@10: the candidate order has none, so there is no lift"]


def test_checks_that_looked_at_nothing_do_not_count_as_passed(capsys: pytest.CaptureFixture[str]) -> None:
    unseen = CheckResult("b", "histories", "not checked", {"not checked": "no version before"})
    warned = CheckResult("c", "histories", "warn", {"share": 0.25})
    show_check_results("amazon", (CheckResult("a", "histories", "pass", {}), unseen, unseen, warned))
    counted, line = capsys.readouterr().out.splitlines()
    assert counted == "amazon: 1 of 4 checks passed, 2 not checked (2 no version before)"
    assert line == "  warn histories · c share 25.0 %"


def test_where_a_few_users_differ_the_verdict_says_so() -> None:
    unknown = {f"{of}_{end}": None for of in ("lift", "personal") for end in ("low", "high")}
    gain, personal = verdict(ROW | unknown)
    assert gain == "NDCG@10 +59.8 % [?]: too few users differ to tell it from chance"
    assert personal.endswith("(shuffled) +10.0 % [?]: not shown to be personal")
