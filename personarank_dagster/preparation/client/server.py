"""One OpenAI-compatible server: requests that are tried again, and the form of JSON that it understands."""

import asyncio
import email.utils
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import httpx
import msgspec

from personarank_dagster.core.errors import ConfigError, reason_of
from personarank_dagster.preparation.client.kept_answers import KeptAnswers, Tariff
from personarank_dagster.preparation.client.pace import Pace, Sent
from personarank_dagster.preparation.questions import BadAnswerError, Question, bare_json

# How a server is asked for JSON, the strictest first.
RUNGS: tuple["Rung", ...] = ("bounded_schema", "json_schema", "json_object", "prompt")
Rung = Literal["bounded_schema", "json_schema", "json_object", "prompt"]

# Rules of a schema that some servers refuse; where they are understood, they end what a small model would not.
BOUNDS = {"minLength", "maxLength"}

STOPS = {
    401: "the key was refused; set api_key_env in prepare.yaml to the name of the variable that holds it",
    403: "the key may not do this; set api_key_env and model in prepare.yaml",
    404: "there is no such address or model; set base_url and model in prepare.yaml",
}
PASSING = {408, 409, 425, 429}
MAX_PAUSE = 120.0

# Names that servers have for a prompt that does not fit.
TOO_LONG = (
    "context_length",
    "context length",
    "context size",
    "too long",
    "maximum context",
    "exceeds the available",
)

PROBE_SCHEMA = {
    "type": "object",
    "properties": {"ready": {"type": "boolean"}, "why": {"type": "string", "maxLength": 40}},
    "required": ["ready", "why"],
    "additionalProperties": False,
}


class Usage(msgspec.Struct, frozen=True):
    """Tokens that a server counted."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


class Message(msgspec.Struct, frozen=True):
    """What the model said."""

    content: str | None = None
    refusal: str | None = None


class Choice(msgspec.Struct, frozen=True):
    """One answer."""

    message: Message
    finish_reason: str | None = None


class Completion(msgspec.Struct, frozen=True):
    """The part of a server's reply that counts."""

    choices: list[Choice]
    usage: Usage | None = None


class BudgetSpentError(ConfigError):
    """The budget allows no further request."""


def _spent_message(spent: tuple[int, float], needed: int) -> str:
    return (
        f"prepare.yaml: the budget allows no further request: {spent[0]:,} tokens and ${spent[1]:.4f} are spent, and "
        f"the next may use {needed:,} tokens; raise budget_tokens or budget_usd, what was answered is kept"
    )


class Server:
    """A server, and what was found out about it."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        *,
        model: str,
        kept: KeptAnswers,
        tariff: Tariff,
        pace: Pace,
        retries: int = 6,
        temperature: float = 0.0,
        parameters: Mapping[str, Any] | None = None,
        pause: float = 1.0,
    ) -> None:
        self.client, self.model, self.kept, self.tariff, self.pace = client, model, kept, tariff, pace
        self.retries, self.temperature, self.pause = retries, temperature, pause
        self.parameters = parameters or {}
        self.num_sent = 0
        self._settled = asyncio.Condition()
        self._probing = asyncio.Lock()
        self._open = 0
        self._jitter = random.Random(0)

    async def find_rung(self) -> Rung:
        """The strictest form of JSON that the server understands; asked once, and remembered.

        Raises ConfigError where the server does not answer at all.
        """
        async with self._probing:
            place = f"{self.client.base_url}|{self.model}"
            known = self.kept.rung(place)
            for rung in RUNGS:
                if known == rung or (known is None and await self._understands(rung)):
                    self.kept.remember_rung(place, rung)
                    return rung
            return "prompt"

    async def _understands(self, rung: Rung) -> bool:
        question = Question(
            stage="probe",
            row="probe",
            system="Answer with JSON.",
            user='Answer {"ready": true, "why": "asked"}.',
            answer_schema=PROBE_SCHEMA,
            check=lambda text: text,
        )
        try:
            choice, _ = await self.complete(question, rung, max_tokens=256, seed=0)
            bare_json(choice.message.content or "")
        except BadAnswerError as error:
            if error.outcome == "gave_up":
                place = self.client.base_url
                raise ConfigError(
                    f"{place}: {reason_of(error)}; start the server or set base_url in prepare.yaml"
                ) from error
            return False
        except ValueError:
            return False
        return True

    async def complete(
        self, question: Question, rung: Rung, *, max_tokens: int, seed: int
    ) -> tuple[Choice, Usage | None]:
        """One answer, good or bad; passing failures are tried again, each at its own cost.

        Raises BadAnswerError where the server takes the question from nobody, ConfigError where it takes none.
        """
        body = self.body(question, rung, max_tokens=max_tokens, seed=seed)
        why = ""
        for attempt in range(self.retries + 1):
            async with self.pace.place() as sent:
                result = await self._attempt(question, body, sent)
            if isinstance(result, Completion):
                return result.choices[0], result.usage
            why = result.why
            if attempt < self.retries:
                await asyncio.sleep(max(result.wait, self._jitter.uniform(0, self.pause * 2**attempt)))
        raise BadAnswerError("gave_up", f"no answer in {self.retries + 1} attempts, the last: {why}")

    async def _attempt(self, question: Question, body: dict[str, Any], sent: Sent) -> "Completion | _Passing":
        """A completion, or a failure that passes; what it used is settled however it ends."""
        call = await self._reserve(question, body["max_tokens"])
        used: tuple[int, int] | None = None
        outcome = "broken off"
        try:
            self.num_sent += 1
            reply = await self.client.post("chat/completions", json=body)
            if reply.status_code != 200:
                used, outcome = (0, 0), str(reply.status_code)
                return self._refused(reply, sent)
            completion = _completion(reply)
            self.pace.answered(sent)
            outcome = completion.choices[0].finish_reason or "stop"
            if completion.usage:
                used = (completion.usage.prompt_tokens, completion.usage.completion_tokens)
            return completion
        except httpx.TransportError as error:
            outcome = type(error).__name__
            used = (0, 0) if isinstance(error, httpx.ConnectError) else None
            self.pace.overloaded(sent)
            return _Passing(f"{outcome} {error}".strip())
        except msgspec.MsgspecError as error:
            outcome = "no completion"
            return _Passing(f"{outcome}: {error}")
        finally:
            await self._settle(call, outcome, used)

    def body(self, question: Question, rung: Rung, *, max_tokens: int, seed: int) -> dict[str, Any]:
        """What is sent."""
        system = question.system
        if rung in ("json_object", "prompt"):
            schema = msgspec.json.encode(question.answer_schema).decode()
            system += f"\nAnswer with one JSON object of this schema: {schema}"
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": "system", "content": system}, {"role": "user", "content": question.user}],
            "temperature": self.temperature,
            "seed": seed,
            "max_tokens": max_tokens,
            **self.parameters,
        }
        if rung == "json_object":
            body["response_format"] = {"type": "json_object"}
        if rung in ("bounded_schema", "json_schema"):
            asked = question.answer_schema if rung == "bounded_schema" else without_bounds(question.answer_schema)
            strict = {"name": question.stage, "strict": True, "schema": asked}
            body["response_format"] = {"type": "json_schema", "json_schema": strict}
        return body

    async def _reserve(self, question: Question, max_tokens: int) -> int:
        """Reserve the most that a request can use; where others hold the rest of the budget, wait for them."""
        most = most_tokens(question)
        async with self._settled:
            while (call := self.kept.reserve(question.stage, self.tariff, most, max_tokens)) is None:
                if not self._open:
                    raise BudgetSpentError(_spent_message(self.kept.spent(), most + max_tokens))
                await self._settled.wait()
            self._open += 1
            return call

    async def _settle(self, call: int, outcome: str, used: tuple[int, int] | None) -> None:
        self.kept.settle(call, self.tariff, outcome, used)
        async with self._settled:
            self._open -= 1
            self._settled.notify_all()

    def _refused(self, reply: httpx.Response, sent: Sent) -> "_Passing":
        """A failure that may pass. Raises ConfigError where no request will do, else BadAnswerError."""
        status, said = reply.status_code, " ".join(reply.text.split())[:200]
        if status in STOPS:
            place = f"{self.client.base_url}chat/completions, model {self.model}"
            raise ConfigError(f"{place}: answered {status}: {STOPS[status]}")
        if status in PASSING or status >= 500:
            wait = _retry_after(reply)
            if status in (408, 429, 503):
                self.pace.overloaded(sent, pause=wait)
            return _Passing(f"{status} {said}", wait)
        if any(name in said.lower() for name in TOO_LONG):
            raise BadAnswerError("too_long", f"the request does not fit the model: {said}")
        raise BadAnswerError("rejected", f"the server answered {status}: {said}")


@dataclass(frozen=True)
class _Passing:
    """A failure that may pass, and how long the server asks to wait."""

    why: str
    wait: float = 0.0


def _completion(reply: httpx.Response) -> Completion:
    completion = msgspec.json.decode(reply.content, type=Completion)
    if not completion.choices:
        raise msgspec.ValidationError("expected a choice, got none")
    return completion


def most_tokens(question: Question) -> int:
    """No server makes more tokens of a question."""
    return question.num_bytes + len(msgspec.json.encode(question.answer_schema)) + 256


def without_bounds(schema: Any) -> Any:
    """A schema without the lengths of its texts."""
    if isinstance(schema, list):
        return [without_bounds(one) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {key: without_bounds(value) for key, value in schema.items() if key not in BOUNDS}


def headers(environment: Mapping[str, str], variable: str | None) -> dict[str, str]:
    """Headers with the key, which is kept nowhere else. Raises ConfigError where it is not set."""
    if variable is None:
        return {}
    key = environment.get(variable, "").strip()
    if not key:
        raise ConfigError(f"prepare.yaml: api_key_env names {variable}, which is not set; export {variable}=…")
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(f"prepare.yaml: {variable} must hold a key of printable ASCII; copy it again")
    return {"Authorization": f"Bearer {key}"}


def _retry_after(reply: httpx.Response) -> float:
    """Seconds that the server asks to wait, as seconds or as a date; at most two minutes."""
    text = reply.headers.get("retry-after", "")
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        except ValueError:
            return 0.0
    return min(max(seconds, 0.0), MAX_PAUSE) if seconds == seconds else 0.0
