"""Runs that `personarank run` launched: as the UI sees them, and beside its own."""

import json
from typing import Any

from tests.ui.conftest import Server

OF_THE_JOB = """query($job: String!, $label: String!) {
  runsOrError(filter: {pipelineName: $job, tags: [{key: ".dagster/repository", value: $label}]}) {
    ... on Runs { results { runId status repositoryOrigin { repositoryName repositoryLocationName } } }
  }
}"""
STATUS = "query($run: ID!) { runOrError(runId: $run) { ... on Run { status } } }"
AGAIN = """mutation($run: String!) {
  launchRunReexecution(reexecutionParams: {parentRunId: $run, strategy: FROM_FAILURE}) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
  }
}"""

BACKFILL = """mutation($assets: [AssetKeyInput!]) {
  launchPartitionBackfill(backfillParams: {assetSelection: $assets, partitionNames: ["films"]}) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}"""
STATUS_OF_BACKFILL = """query($backfill: String!) {
  partitionBackfillOrError(backfillId: $backfill) { ... on PartitionBackfill { status } }
}"""
# Not the candidates, of which other tests see that nothing is published.
INPUTS = ["personas", "ground_truth"]


def runs_of_the_job(server: Server) -> list[dict[str, Any]]:
    label = "__repository__@personarank_dagster"
    return server.graphql(OF_THE_JOB, job="full_refresh_job", label=label)["runsOrError"]["results"]


def test_a_failed_run_of_the_terminal_is_under_its_job_and_executed_again_from_its_failure(server: Server) -> None:
    truth = next((server.workspace.folder / "data" / "yelp").glob("gt*"))
    whole = truth.read_bytes()
    truth.write_bytes(b"not a line\n")
    assert server.workspace.call("run", "--partition", "films", "--select", "ground_truth").returncode == 1
    truth.write_bytes(whole)
    failed = runs_of_the_job(server)[0]
    assert failed["status"] == "FAILURE"
    assert failed["repositoryOrigin"]["repositoryLocationName"] == "personarank_dagster"
    again = server.graphql(AGAIN, run=failed["runId"])["launchRunReexecution"]
    assert again["__typename"] == "LaunchRunSuccess", again
    run_id = again["run"]["runId"]
    ended = server.wait_for(lambda: _ended(server, run_id), seconds=120)
    assert ended == "SUCCESS"


def test_a_backfill_of_what_the_terminal_runs_at_the_same_time_mixes_nothing(server: Server) -> None:
    run = ("run", "--partition", "films", "--select", ",".join(INPUTS), "--force")
    assets = [{"path": [name]} for name in INPUTS]
    launched = server.graphql(BACKFILL, assets=assets)["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", launched
    codes = []
    while (status := _status_of_backfill(server, launched["backfillId"])) in ("REQUESTED", "COMPLETING"):
        codes.append(server.workspace.call(*run).returncode)
    assert (status, {*codes}) == ("COMPLETED_SUCCESS", {0})
    versions = json.loads(server.workspace.call("verify", "--partition", "films", "--json").stdout)
    assert {one["asset"] for one in versions} >= {*INPUTS}
    assert [one["damage"] for one in versions] == [[]] * len(versions)


def _status_of_backfill(server: Server, backfill: str) -> str:
    status: str = server.graphql(STATUS_OF_BACKFILL, backfill=backfill)["partitionBackfillOrError"]["status"]
    return status


def _ended(server: Server, run_id: str) -> str | None:
    status: str = server.graphql(STATUS, run=run_id)["runOrError"]["status"]
    return status if status in ("SUCCESS", "FAILURE", "CANCELED") else None
