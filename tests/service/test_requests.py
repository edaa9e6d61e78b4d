"""What a client gets from the real server."""

import json
import re
from pathlib import Path

import psutil
import pytest

from personarank_dagster import Reranker
from tests.service.conftest import CANDIDATES, Server
from tests.serving.test_reranker import LIST


@pytest.mark.parametrize("user", ["u1", "u4", "nobody"])
def test_lists_over_http_equal_those_of_the_reranker(server: Server, folder: Path, user: str) -> None:
    expected = Reranker.open(folder / "outputs/amazon").rerank(user, LIST)
    status, answer = server.rerank(user=user, explain=True)
    assert status == 200
    told = [(r["item_id"], r["relevance_score"], r["candidate_rank"], r["persona_score"]) for r in answer["results"]]
    assert told == [(p.item_id, p.score, p.candidate_rank, p.persona_score) for p in expected]
    assert (answer["note"], answer["version"]) == (expected.note, expected.version)
    reasons = [[one["contribution"] for one in r.get("reasons", [])] for r in answer["results"]]
    assert reasons == [[one.contribution for one in p.reasons] for p in expected]


def test_results_name_the_place_in_the_request(server: Server) -> None:
    pad = {"item_id": "[PAD]", "score": 0}
    answer = server.rerank(candidates=[pad, *CANDIDATES, CANDIDATES[0]])[1]
    assert sorted(one["index"] for one in answer["results"]) == [1, 2, 3, 4, 5, 6]
    assert all(one["item_id"] == CANDIDATES[one["index"] - 1]["item_id"] for one in answer["results"])
    assert answer["note"] == "left out: 1 [PAD], 1 repeated"


def test_only_an_explanation_has_personas_and_reasons(server: Server) -> None:
    plain, told = server.rerank(top_n=1)[1]["results"], server.rerank(top_n=1, explain=True)[1]["results"]
    assert [set(one) & {"persona", "reasons"} for one in plain + told] == [set(), {"persona", "reasons"}]
    persona = told[0]["persona"]
    assert persona["name"] == f"Fan {persona['unique_persona_id']}"
    assert persona["preference_rationale"] == "x"


def test_a_history_of_items_is_reranked(server: Server) -> None:
    history = [{"item_id": "x", "rating": 5, "timestamp": "2026-01-01"}, {"item_id": "i2"}]
    status, answer = server.request("POST", "/v1/rerank", {"history": history, "candidates": CANDIDATES})[:2]
    assert (status, answer["note"]) == (200, None)


def test_a_batch_answers_line_by_line_and_says_which_line_is_wrong(server: Server) -> None:
    good = json.dumps({"user": "u4", "candidates": CANDIDATES})
    body = "\n".join([good, "", "{", good.replace("u4", "u1")]).encode()
    status, text, _ = server.request("POST", "/v1/rerank/batch", body)
    first, wrong, last = (json.loads(line) for line in text.splitlines())
    assert status == 200
    assert first["results"] == server.rerank()[1]["results"]
    assert wrong["error"].startswith("line 3: body: is not JSON")
    assert last["results"] == server.rerank(user="u1")[1]["results"]


def test_recommendations_have_an_id_of_their_own(server: Server) -> None:
    assert len({server.rerank()[1]["recommendation_id"] for _ in range(20)}) == 20


def test_health_and_metrics(server: Server) -> None:
    assert server.request("GET", "/health/live")[:2] == (200, {"live": True})
    status, answer, _ = server.request("GET", "/health/ready")
    assert (status, answer["ready"], list(answer["datasets"])) == (200, True, ["amazon"])
    assert server.request("HEAD", "/health/live")[:2] == (200, "")


def test_metrics_count_requests_unknown_users_and_items(server: Server) -> None:
    def number(line: str) -> float:
        found = re.search(rf"^personarank_{re.escape(line)} (\S+)$", server.request("GET", "/metrics")[1], re.M)
        return float(found[1]) if found else 0

    names = ('requests_total{route="rerank",status="200"}', "unknown_users_total", "unknown_items_total")
    before = [number(name) for name in names]
    server.rerank(user="nobody", candidates=[*CANDIDATES, {"item_id": "new", "score": 0}])
    assert [number(name) - old for name, old in zip(names, before, strict=True)] == [1, 1, 3]
    assert number('request_seconds_bucket{route="rerank",le="+Inf"}') >= number(names[0])
    assert 0 <= number('version_age_seconds{dataset="amazon"}') < 1000


def test_the_log_has_a_line_a_request_without_ids(server: Server) -> None:
    told = server.rerank(user="u1")[1]["recommendation_id"]
    line = server.becomes(lambda: next((one for one in server.lines() if one.get("recommendation_id") == told), None))
    assert (line["status"], line["path"], line["arm"], line["candidates"]) == (200, "/v1/rerank", "reranked", 6)
    assert "user" not in line
    assert "u1" not in json.dumps(line | {"recommendation_id": ""})


def test_no_dagster_and_no_torch_are_in_the_process(server: Server) -> None:
    maps = Path(f"/proc/{server.process.pid}/maps")
    if not maps.exists():
        pytest.skip("only Linux shows what a process has mapped")
    assert server.rerank()[0] == 200
    assert "torch" not in maps.read_text()
    assert len(psutil.Process(server.process.pid).children()) == 0
