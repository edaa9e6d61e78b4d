from pathlib import Path

import pytest

from personarank_dagster.core.errors import ConfigError
from personarank_dagster.preparation.batches import asking
from personarank_dagster.preparation.batches.asking import Batches
from personarank_dagster.preparation.client.kept_answers import KeptAnswers
from personarank_dagster.preparation.run import Report, Source, prepare
from personarank_dagster.preparation.stand_in import StandIn
from tests.preparation.test_run import SETTINGS, dataset, served, source

# The probe; then summaries, aspects, personas, selections, each in a batch.
ROWS = [6, 16, 6, 4]
ASKED = 1 + sum(ROWS)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "POLL_SECONDS", 0.0)


def batched(tmp_path: Path, name: str = "a", settings: str = "batch: true\n") -> Source:
    return source(dataset(tmp_path / name, SETTINGS + settings))


def files(report: Report) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in report.files}


def test_a_stage_is_asked_as_one_batch_and_gives_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(monkeypatch, StandIn()) as server:
        report = prepare(batched(tmp_path))
    assert [stage.outcomes for stage in report.stages] == [{"answered in a batch": rows} for rows in ROWS]
    assert [stage.kept for stage in report.stages] == [0, 0, 0, 0]
    assert (len(server.desk.batches), server.num_requests) == (4, ASKED)
    with served(monkeypatch, StandIn()):
        assert files(prepare(batched(tmp_path, "b", ""))) == files(report)


def test_what_a_batch_answers_badly_or_not_at_all_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = ("429", "no JSON", "empty", "dropped")
    with served(monkeypatch, StandIn(fault_share=0.3, faults=faults, seed=3)):
        report = prepare(batched(tmp_path, settings="batch: true\nrepairs: 9\n"))
    assert [stage.set_aside for stage in report.stages] == [0, 0, 0, 0]
    with served(monkeypatch, StandIn()):
        assert files(prepare(batched(tmp_path, "b", ""))) == files(report)


def test_a_batch_of_errors_alone_has_no_output_file_and_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = batched(tmp_path)
    server = StandIn()
    monkeypatch.setattr(server, "_batched", lambda body: (400, {"error": {"message": "no"}}))
    with served(monkeypatch, server):
        report = prepare(prepared)
    assert {batch["output_file_id"] for batch in server.desk.batches.values()} == {None}
    assert [stage.outcomes["answered"] for stage in report.stages] == ROWS


@pytest.mark.parametrize("lost", ["_create", "sent", "_ended", "forget"])
def test_a_killed_run_finds_its_batch_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str) -> None:
    """Killed before it was sent, before the server's name was remembered, while waiting, and when all was read."""
    prepared, place = batched(tmp_path), Batches if lost.startswith("_") else asking.OpenBatches

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with served(monkeypatch, StandIn()) as server:
        with monkeypatch.context() as patched:
            patched.setattr(place, lost, die)
            with pytest.raises(KeyboardInterrupt):
                prepare(prepared)
        report = prepare(prepared)
    assert (server.num_requests, len(server.desk.batches)) == (ASKED, 4)
    with KeptAnswers(prepared.means.answers_path) as kept:
        assert not kept.account()["item_summaries"].get("in flight")
    assert [stage.questions for stage in report.stages] == ROWS


def test_a_budget_bounds_what_is_in_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = batched(tmp_path, settings="batch: true\nbudget_tokens: 5000\n")
    with served(monkeypatch, StandIn()) as server, pytest.raises(ConfigError, match="the budget allows no further"):
        prepare(prepared)
    with KeptAnswers(prepared.means.answers_path) as kept:
        assert kept.spent()[0] <= 5000
    assert 0 < server.desk.files["file-0"].count(b"\n") + 1 < ROWS[0]


def test_a_server_without_batches_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = StandIn()
    monkeypatch.setattr(server.desk, "routes", list)
    with served(monkeypatch, server), pytest.raises(ConfigError, match=r"/v1/files: answered 404.*set batch: false"):
        prepare(batched(tmp_path))
