"""A server that speaks the OpenAI protocol and is no language model: for tests, the demo and trying out settings.

Its answers fit the schema and take their words from the prompt, so that they say something about the item.
"""

import asyncio
import json
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xxhash
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

NAME = "stand-in (no language model)"

FAULTS = (
    "429",
    "429 with Retry-After",
    "500",
    "503",
    "slow",
    "cut",
    "refused",
    "filtered",
    "empty",
    "blanks",
    "no JSON",
    "invented",
    "401",
    "dropped",
    "prompt cut",
)

_WORD = re.compile(r"[a-z]{4,}")
_COMMON = {"about", "after", "also", "because", "been", "from", "have", "item", "just", "rating", "really", "review"}
_COMMON |= {
    "reviews",
    "some",
    "text",
    "than",
    "that",
    "their",
    "them",
    "then",
    "there",
    "they",
    "this",
    "title",
    "very",
}
_COMMON |= {"were", "what", "when", "which", "will", "with", "would", "your"}


@dataclass
class StandIn:
    """What the server does: the share of requests that a seeded script spoils, and in which ways, and its log."""

    fault_share: float = 0.0
    faults: Sequence[str] = ("429", "500", "cut", "no JSON", "empty")
    seed: int = 13
    latency: float = 0.0
    at_once: int | None = None
    json_forms: Sequence[str] = ("bounded_schema", "json_schema", "json_object")
    log: Path | None = None
    num_requests: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    _busy: int = 0

    def app(self) -> Starlette:
        """The server as an ASGI application."""
        return Starlette(
            routes=[
                Route("/v1/chat/completions", self._complete, methods=["POST"]),
                Route("/v1/models", self._models),
            ]
        )

    async def _models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": NAME, "object": "model"}]})

    async def _complete(self, request: Request) -> Response:
        try:
            body = json.loads(await request.body())
        except ClientDisconnect:
            return Response(status_code=400)
        self.num_requests += 1
        draw = random.Random(f"{self.seed} {self.num_requests}")
        fault = draw.choice(list(self.faults)) if draw.random() < self.fault_share else ""
        if self.log:
            with self.log.open("a") as log:
                log.write(json.dumps({"fault": fault, "messages": body["messages"]}) + "\n")
        if self.at_once is not None and self._busy >= self.at_once:
            fault = "429"
        self.outcomes[fault or "answered"] += 1
        self._busy += 1
        try:
            await asyncio.sleep(self.latency * (10 if fault == "slow" else 1))
        finally:
            self._busy -= 1
        return self._reply(body, fault)

    def _reply(self, body: Mapping[str, Any], fault: str) -> Response:
        if fault[:3].isdigit():
            wait = {"Retry-After": "0.2"} if "Retry-After" in fault else {}
            return JSONResponse({"error": {"message": f"fault: {fault}"}}, int(fault[:3]), wait)
        if fault == "dropped":
            # Fewer bytes than announced: the connection breaks in the middle of the reply.
            return Response(b"{", headers={"content-length": "1000"}, media_type="application/json")
        form = _form(body.get("response_format", {}))
        if form and form not in self.json_forms:
            return JSONResponse({"error": {"message": f"response_format {form} is not supported"}}, 400)
        content, finish = _spoiled(json.dumps(answer_from(body)), fault)
        prompt = sum(len(message["content"].encode()) for message in body["messages"]) // 4
        usage = {
            "prompt_tokens": 64 if fault == "prompt cut" else prompt,
            "completion_tokens": len(content) // 4,
        }
        message = {"role": "assistant", "content": content, "refusal": "no" if fault == "refused" else None}
        choice = {"index": 0, "message": message, "finish_reason": finish}
        return JSONResponse({"object": "chat.completion", "model": NAME, "choices": [choice], "usage": usage})


def _form(wanted: Mapping[str, Any]) -> str | None:
    """How a request asks for JSON; with lengths in its schema that is a form of its own."""
    form: str | None = wanted.get("type")
    return "bounded_schema" if form == "json_schema" and '"maxLength"' in json.dumps(wanted) else form


def _spoiled(content: str, fault: str) -> tuple[str, str]:
    """The answer and its finish_reason, as a fault leaves them."""
    spoiled = {
        "cut": (content[: len(content) // 2], "length"),
        "refused": ("", "stop"),
        "filtered": ("", "content_filter"),
        "empty": ("", "stop"),
        "blanks": (content[:-1] + " " * 500, "length"),
        "no JSON": ("Sure, here is what you asked for.", "stop"),
        "invented": (re.sub(r'"[RP]\d+"', '"R999"', content), "stop"),
    }
    return spoiled.get(fault, (content, "stop"))


def answer_from(body: Mapping[str, Any]) -> Any:
    """An answer that fits the schema of a request, made of the most frequent words of its user message."""
    schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
    if schema is None:
        schema = json.loads(body["messages"][0]["content"].rpartition("schema: ")[2] or "{}")
    user = body["messages"][-1]["content"]
    words = [word for word in _WORD.findall(user.lower()) if word not in _COMMON]
    ranked = [word for word, _ in Counter(words).most_common(24)] or ["something"]
    return _value(schema, ranked, random.Random(xxhash.xxh3_64_intdigest(user.encode())))


def _value(schema: Mapping[str, Any], words: Sequence[str], draw: random.Random) -> Any:
    kind = schema.get("type")
    kind = next((one for one in kind if one != "null"), "null") if isinstance(kind, list) else kind
    if "enum" in schema:
        return draw.choice([one for one in schema["enum"] if one is not None])
    if kind == "object":
        return {name: _value(one, words, draw) for name, one in schema.get("properties", {}).items()}
    if kind == "array":
        least = schema.get("minItems", 1)
        most = max(least, min(schema.get("maxItems", least + 1), least + 1))
        return [_value(schema["items"], words, draw) for _ in range(draw.randint(least, most))]
    if kind == "boolean":
        return True
    if kind in ("number", "integer"):
        return schema.get("minimum", 0)
    return " ".join(draw.sample(list(words), min(len(words), 5)))


def serve(stand_in: StandIn, port: int) -> None:
    """Serve on this machine, for this machine, until it is told to end."""
    import uvicorn

    uvicorn.run(stand_in.app(), host="127.0.0.1", port=port, log_level="warning")
