import asyncio
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import httpx
import pytest

from personarank_dagster.core.errors import ConfigError, InputError
from personarank_dagster.preparation.client.kept_answers import KeptAnswers, Tariff
from personarank_dagster.preparation.client.pace import Pace
from personarank_dagster.preparation.client.server import BudgetSpentError, headers
from personarank_dagster.preparation.client.token_counts import TokenCount, token_count
from personarank_dagster.preparation.stand_in import FAULTS, StandIn
from tests.preparation.asked import ask, question

REPLY = {
    "choices": [{"message": {"content": '{"summary": "s"}'}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 5},
}


class Scripted(httpx.AsyncBaseTransport):
    """Replies in turn, the last one for ever; counts requests and how many were open at once."""

    def __init__(self, *replies: Any) -> None:
        self.replies, self.num_requests, self.bodies = list(replies), 0, []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.bodies.append(request.content.decode())
        if "Answer with JSON." in self.bodies[-1]:
            return httpx.Response(200, json={"choices": [{"message": {"content": '{"ready": true}'}}]})
        self.num_requests += 1
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if isinstance(reply, Exception):
            raise reply
        status, body, sent = (*reply, {}, {})[:3] if isinstance(reply, tuple) else (200, reply, {})
        return httpx.Response(status, json=body, headers=sent)


def choice(content: str, finish: str = "stop", **message: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"content": content, **message}, "finish_reason": finish}]}


def test_an_answer_is_paid_once(tmp_path: Path) -> None:
    server, questions = StandIn(), [question(i) for i in range(5)]
    first = ask(tmp_path / "a.sqlite", server, questions)
    num_requests = server.num_requests
    second = ask(tmp_path / "a.sqlite", server, questions)
    assert (first.by_row, server.num_requests) == (second.by_row, num_requests)
    assert second.outcomes == {"kept": 5}


def test_equal_questions_in_flight_are_asked_once(tmp_path: Path) -> None:
    server = Scripted(REPLY)
    same = [question(1), question(1, text="other"), question(1)]
    answers = ask(tmp_path / "a.sqlite", server, [*same, *same])
    assert server.num_requests == 2
    assert answers.by_row == {"i1": "s"}


def test_answers_are_the_same_with_1_and_64_in_flight_and_with_faults(tmp_path: Path) -> None:
    questions = [question(i) for i in range(80)]
    spoiled = StandIn(fault_share=0.3, faults=("429", "500", "no JSON", "empty", "cut"))
    one = ask(tmp_path / "1.sqlite", StandIn(), questions, at_once=1)
    many = ask(tmp_path / "64.sqlite", spoiled, questions, at_once=64, repairs=10, retries=20)
    assert list(one.by_row.items()) == list(many.by_row.items())


@pytest.mark.parametrize("reply", [(429,), (503,), (500,), (408,), httpx.ReadError("x"), httpx.ConnectError("x")])
def test_a_failure_that_passes_is_tried_again(tmp_path: Path, reply: Any) -> None:
    server = Scripted(reply, reply, REPLY)
    assert ask(tmp_path / "a.sqlite", server, [question(1)]).by_row == {"i1": "s"}
    assert server.num_requests == 3


@pytest.mark.parametrize(("status", "key"), [(401, "api_key_env"), (403, "api_key_env"), (404, "base_url and model")])
def test_a_wrong_key_or_address_stops_at_once(tmp_path: Path, status: int, key: str) -> None:
    server = Scripted((status, {}))
    with pytest.raises(ConfigError, match=f"answered {status}: .*{key}"):
        ask(tmp_path / "a.sqlite", server, [question(i) for i in range(9)], at_once=1)
    assert server.num_requests == 1


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (choice("", refusal="I cannot"), "refused"),
        (choice("x", "content_filter"), "filtered"),
        (choice(""), "empty"),
        (choice('{"summary": "s"}' + " " * 300), "endless_blanks"),
        (choice("Sure!"), "invalid_json"),
        (choice('{"summary": "s", "more": 1}'), "invalid_answer"),
        (choice('{"summary": "s'), "invalid_json"),
        (choice('{"summary": "s', "length"), "length"),
        (choice('{"summary": "the-mark"}'), "canary"),
        ((400, {"error": "maximum context length is 100"}), "too_long"),
        ((422, {"error": "no"}), "rejected"),
        ((500, {}), "gave_up"),
    ],
)
def test_every_bad_answer_is_set_aside_as_what_it_is(tmp_path: Path, reply: Any, outcome: str) -> None:
    answers = ask(
        tmp_path / "a.sqlite", Scripted(reply), [question(1, canary="the-mark")], retries=1, max_bad_share=1.0
    )
    assert [one.outcome for one in answers.set_aside] == [outcome]
    assert answers.by_row == {}


def test_an_answer_that_is_cut_is_asked_for_once_with_more_tokens(tmp_path: Path) -> None:
    server = Scripted(choice('{"summary": "s', "length"), REPLY)
    ask(tmp_path / "a.sqlite", server, [question(1)])
    asked = [body for body in server.bodies if "Summarise" in body]
    assert ['"max_tokens":1024' in body for body in asked] == [True, False]
    assert '"max_tokens":2048' in asked[1]


def test_too_many_bad_answers_stop_the_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"item_summaries: 3 of 40 rows .* max_bad_share 0.05.*invalid_json"):
        ask(tmp_path / "a.sqlite", Scripted(choice("Sure!")), [question(i) for i in range(40)], at_once=1)


@pytest.mark.parametrize(
    "forms", [("bounded_schema", "json_schema"), ("json_schema", "json_object"), ("json_object",), ()]
)
def test_a_server_is_asked_for_json_as_it_understands_it(tmp_path: Path, forms: tuple[str, ...]) -> None:
    server = StandIn(json_forms=forms)
    assert len(ask(tmp_path / "a.sqlite", server, [question(1)]).by_row) == 1
    with KeptAnswers(tmp_path / "a.sqlite") as kept:
        assert kept.rung(f"{'http://stand-in/v1/'}|m") == (forms or ("prompt",))[0]


def test_a_server_that_cuts_prompts_is_named(tmp_path: Path) -> None:
    long = "guitar strings " * 1000
    with pytest.raises(ConfigError, match=r"read 64 tokens of a prompt of about 37.*num_ctx"):
        ask(tmp_path / "a.sqlite", StandIn(fault_share=1, faults=("prompt cut",)), [question(1, text=long)])


@pytest.mark.parametrize(("read", "whole"), [(100, True), (85, False)])
def test_with_the_tokenizer_of_the_model_a_tenth_that_is_missing_is_noticed(
    tmp_path: Path, read: int, whole: bool
) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokens = TokenCount(Tokenizer(models.WordLevel({"w": 0, "?": 1}, unk_token="?")))
    tokens.tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    long = question(1, text="w " * 2000)
    assert tokens.of(long) == 2000 + 3
    usage = {"prompt_tokens": read * 2003 // 100, "completion_tokens": 5}
    server = Scripted(REPLY | {"usage": usage})
    with nullcontext() if whole else pytest.raises(ConfigError, match="read 1702 tokens of a prompt of about 2003"):
        ask(tmp_path / "a.sqlite", server, [long], tokens=tokens)


def test_what_is_no_tokenizer_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    for path in (tmp_path, tmp_path / "gone.json"):
        with pytest.raises(ConfigError, match=r"json: is not the tokenizer.json of a tokenizer: .*; name the file"):
            token_count(path)


@pytest.mark.parametrize("at_once", [1, 64])
def test_a_budget_is_never_exceeded(tmp_path: Path, at_once: int) -> None:
    tariff = Tariff(price_in=1.0, price_out=2.0, budget_tokens=20_000)
    with pytest.raises(BudgetSpentError, match="budget"):
        ask(tmp_path / "a.sqlite", StandIn(), [question(i) for i in range(900)], tariff=tariff, at_once=at_once)
    with KeptAnswers(tmp_path / "a.sqlite") as kept:
        assert 17_000 < kept.spent()[0] <= 20_000


def test_a_run_goes_on_where_its_budget_ended(tmp_path: Path) -> None:
    server, questions = StandIn(), [question(i) for i in range(100)]
    with pytest.raises(BudgetSpentError):
        ask(tmp_path / "a.sqlite", server, questions, tariff=Tariff(budget_tokens=3_000))
    ask(tmp_path / "a.sqlite", server, questions, tariff=Tariff(budget_tokens=100_000))
    assert server.num_requests == 100 + 1


def test_what_was_in_flight_when_a_run_died_counts_as_spent(tmp_path: Path) -> None:
    with KeptAnswers(tmp_path / "a.sqlite") as kept:
        kept.reserve("item_summaries", Tariff(), 500, 100)
    with KeptAnswers(tmp_path / "a.sqlite") as kept:
        assert kept.spent() == (600, 0.0)
        assert kept.account()["item_summaries"]["in flight"] == 1


def test_a_key_is_sent_and_stands_in_no_message_or_file(tmp_path: Path) -> None:
    assert headers({"KEY": " secret "}, "KEY") == {"Authorization": "Bearer secret"}
    with pytest.raises(ConfigError, match="api_key_env names KEY, which is not set"):
        headers({}, "KEY")
    with pytest.raises(ConfigError) as wrong:
        headers({"KEY": "secret\nkey"}, "KEY")
    assert "secret" not in str(wrong.value)


def test_the_pace_finds_what_a_server_takes() -> None:
    now = [0.0]
    pace = Pace(100, clock=lambda: now[0])

    async def answer_in_turn() -> None:
        for _ in range(4000):
            async with pace.place() as sent:
                now[0] += max(1.0, pace.limit / 8)
                pace.answered(sent)

    asyncio.run(answer_in_turn())
    assert 7 <= pace.limit <= 20


def test_the_pace_halves_once_for_a_burst() -> None:
    pace = Pace(64, clock=lambda: 1.0)
    pace.limit = 32.0

    async def refuse() -> None:
        async with pace.place() as first, pace.place() as second:
            pace.overloaded(first)
            second.at = 0.5
            pace.overloaded(second)

    asyncio.run(refuse())
    assert pace.limit == 16.0


@pytest.mark.parametrize("fault", FAULTS)
def test_no_fault_of_the_script_is_silent(tmp_path: Path, fault: str) -> None:
    server = StandIn(fault_share=0.5, faults=(fault,), seed=2)
    questions = [question(i, text="guitar strings " * 1000) for i in range(20)]
    if fault in ("401", "prompt cut"):
        with pytest.raises(ConfigError, match=r"answered 401|cuts prompts"):
            ask(tmp_path / "a.sqlite", server, questions)
        return
    answers = ask(tmp_path / "a.sqlite", server, questions, max_bad_share=1.0)
    assert len(answers.by_row) + len(answers.set_aside) == 20
    assert all(set(answer.split()) == {"guitar", "strings"} for answer in answers.by_row.values())
