"""How many requests are in flight decides nothing but the time: not the tables, and not what is spent."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from starlette.responses import Response

from personarank_dagster.definitions import defs, project
from personarank_dagster.defs.automation.runs import execute, plan_run
from personarank_dagster.defs.platform.declarations import asset_names
from personarank_dagster.preparation import stage_runs
from personarank_dagster.preparation.client.kept_answers import KeptAnswers
from personarank_dagster.preparation.client.pace import Pace
from personarank_dagster.preparation.stand_in import StandIn
from tests.preparation.test_run import SETTINGS, dataset, served

MADE = 'group:"preparation" or group:"inputs"'
# Requests of a whole preparation: the probe, and those of four stages.
ASKED = 1 + 6 + 16 + 6 + 4


@dataclass
class Billing(StandIn):
    """A stand-in that counts the tokens of its answers, and has so many seconds for each."""

    latency: float = 0.002
    billed: int = 0
    busiest: int = 0

    def _reply(self, body: Mapping[str, Any], fault: str) -> Response:
        reply = super()._reply(body, fault)
        self.billed += sum(json.loads(reply.body).get("usage", {}).values())
        self.busiest = max(self.busiest, self._busy + 1)
        return reply


class AllAtOnce(Pace):
    """A pace that need not find out what the server takes."""

    def __init__(self, most: int) -> None:
        super().__init__(most)
        self.limit = float(most)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The prepare.yaml of the dataset `amazon`, which is asked about with no slow start."""
    monkeypatch.setattr(stage_runs, "Pace", AllAtOnce)
    monkeypatch.setenv("PERSONARANK_CONFIG_DIR", str(dataset(tmp_path, name="amazon")))
    return tmp_path / "configs" / "amazon" / "prepare.yaml"


def failures(settings: Path, **keys: int) -> list[str]:
    """How a run with these keys in its prepare.yaml fails."""
    settings.write_text(SETTINGS + "".join(f"{key}: {value}\n" for key, value in keys.items()))
    with dg.instance_for_test() as instance:
        return [*execute(defs, plan_run(defs, project, "amazon", select=MADE), instance).failures.values()]


def data_versions() -> dict[str, str]:
    found = {name: project.versions(name, "amazon").find_current() for name in asset_names(partitioned=True)}
    return {name: version.manifest.data_version for name, version in found.items() if version}


def test_1_and_64_in_flight_give_the_same_tables(
    settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {}
    for at_once in (1, 64):
        monkeypatch.setenv("PERSONARANK_OUT_ROOT", str(tmp_path / f"out-{at_once}"))
        with served(monkeypatch, Billing(fault_share=0.2, faults=("no JSON", "empty"))) as server:
            assert failures(settings, concurrency=at_once, repairs=9) == []
        made[at_once] = data_versions()
        assert server.busiest == (1 if at_once == 1 else 16)
    assert made[1] == made[64] != {}


def test_a_budget_is_never_exceeded_with_64_in_flight(
    settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(monkeypatch, Billing()) as server:
        for budget in (2_000, 4_000, 6_000, 8_000, 10_000):
            assert (
                "the budget allows no further request" in failures(settings, concurrency=64, budget_tokens=budget)[0]
            )
            with KeptAnswers(tmp_path / "out/preparation/answers.sqlite") as kept:
                assert server.billed == kept.spent()[0] <= budget
        assert failures(settings, concurrency=64, budget_tokens=1_000_000) == []
    assert server.num_requests == ASKED
