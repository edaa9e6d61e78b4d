"""Questions as batches: good answers are kept, and who asks one by one afterwards finds them."""

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import msgspec

from personarank_dagster.core.errors import ConfigError
from personarank_dagster.preparation.batches.open_batches import OpenBatch, OpenBatches
from personarank_dagster.preparation.client.asking import Rules, check_finished
from personarank_dagster.preparation.client.server import PASSING, Completion, Server, most_tokens
from personarank_dagster.preparation.questions import BadAnswerError, Question, checked

ENDED = {"completed", "failed", "expired", "cancelled"}
# Of one batch; servers take some more.
MOST_ROWS = 10_000
POLL_SECONDS = 20.0


class Batch(msgspec.Struct, frozen=True):
    """The part of a batch that counts."""

    id: str
    status: str
    output_file_id: str | None = None
    error_file_id: str | None = None
    metadata: dict[str, str] | None = None
    errors: Any = None


class Page(msgspec.Struct, frozen=True):
    """Batches of a server."""

    data: list[Batch]


class Reply(msgspec.Struct, frozen=True):
    """What the server says to one row."""

    status_code: int = 0
    body: msgspec.Raw = msgspec.Raw(b"null")


class Line(msgspec.Struct, frozen=True):
    """One row of an output file or an error file."""

    custom_id: str
    response: Reply | None = None


class Batches:
    """Asks a server by batches; each is remembered before it is sent, and read once."""

    def __init__(self, server: Server, rules: Rules, stage: str) -> None:
        self.server, self.rules = server, rules
        self.open = OpenBatches(server.kept, stage)

    async def ask(self, questions: Sequence[Question]) -> int:
        """Ask what is not kept, and say how many good answers came. Raises ConfigError where no batch is taken."""
        by_key = {self.rules.key(question): question for question in questions}
        good, seen = 0, set[str]()
        for found in self.open.all():
            good += await self._read(found, by_key, seen)
        while batch := await self._send({key: one for key, one in by_key.items() if key not in seen}):
            before = len(seen)
            good += await self._read(batch, by_key, seen)
            if len(seen) == before:
                break
        return good

    async def _send(self, questions: Mapping[str, Question]) -> OpenBatch | None:
        """A batch of what is not kept and fits the budget; None where that is nothing."""
        rung = await self.server.find_rung()
        calls: dict[str, int] = {}
        lines = []
        for key, question in questions.items():
            if len(calls) == MOST_ROWS or self.server.kept.get(key) is not None:
                continue
            most, longest = most_tokens(question), self.rules.max_tokens
            if (call := self.server.kept.reserve(question.stage, self.server.tariff, most, longest)) is None:
                break
            calls[key] = call
            body = self.server.body(question, rung, max_tokens=longest, seed=self.rules.seed)
            lines.append({"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": body})
        if not calls:
            return None
        batch = self.open.intend(uuid.uuid4().hex, calls)
        return await self._create(batch, b"\n".join(msgspec.json.encode(line) for line in lines))

    async def _create(self, batch: OpenBatch, content: bytes) -> OpenBatch:
        file = await self._call("POST", "files", data={"purpose": "batch"}, files={"file": ("asked.jsonl", content)})
        wanted = {
            "input_file_id": msgspec.json.decode(file, type=dict[str, Any])["id"],
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
            "metadata": {"personarank": batch.name},
        }
        made = msgspec.json.decode(await self._call("POST", "batches", json=wanted), type=Batch)
        self.open.sent(batch.name, made.id)
        return OpenBatch(batch.name, made.id, batch.calls)

    async def _read(self, batch: OpenBatch, questions: Mapping[str, Question], seen: set[str]) -> int:
        """Wait for a batch and keep its good answers; rows without a reply cost nothing."""
        ended = await self._ended(batch)
        lines = [] if ended is None else await self._lines(ended)
        good = 0
        for line in lines:
            if line.custom_id in batch.calls:
                seen.add(line.custom_id)
                good += self._keep(line, batch.calls[line.custom_id], questions.get(line.custom_id))
        outcome = "batch: never sent" if ended is None else f"batch: {ended.status} without a reply"
        for key in batch.calls.keys() - {line.custom_id for line in lines}:
            self.server.kept.settle(batch.calls[key], self.server.tariff, outcome, (0, 0))
        self.open.forget(batch.name)
        if ended and ended.status == "failed":
            raise ConfigError(f"{self._place('batches')}: batch {ended.id} failed: {ended.errors}; set batch: false")
        return good

    async def _ended(self, batch: OpenBatch) -> Batch | None:
        """The batch when it is done; None where the server never got it."""
        batch_id = batch.id or await self._find(batch.name)
        while batch_id:
            now = msgspec.json.decode(await self._call("GET", f"batches/{batch_id}"), type=Batch)
            if now.status in ENDED:
                return now
            await asyncio.sleep(POLL_SECONDS)
        return None

    async def _find(self, name: str) -> str | None:
        """The id of a batch whose reply was lost, among the last hundred."""
        page = msgspec.json.decode(await self._call("GET", "batches", params={"limit": "100"}), type=Page)
        return next((one.id for one in page.data if (one.metadata or {}).get("personarank") == name), None)

    async def _lines(self, batch: Batch) -> list[Line]:
        """Rows of both files; a batch can be completed without an output file."""
        files = [file for file in (batch.output_file_id, batch.error_file_id) if file]
        contents = [await self._call("GET", f"files/{file}/content") for file in files]
        return [msgspec.json.decode(line, type=Line) for content in contents for line in content.splitlines() if line]

    def _keep(self, line: Line, call: int, question: Question | None) -> bool:
        """Settle what a row cost, and keep its answer if it is good."""
        kept, tariff = self.server.kept, self.server.tariff
        status = line.response.status_code if line.response else 0
        try:
            completion = msgspec.json.decode(line.response.body, type=Completion) if line.response else None
        except msgspec.MsgspecError:
            completion = None
        if status != 200 or completion is None or not completion.choices:
            kept.settle(call, tariff, f"batch: {status}", (0, 0))
            return False
        choice, usage = completion.choices[0], completion.usage
        used = (usage.prompt_tokens, usage.completion_tokens) if usage else None
        kept.settle(call, tariff, f"batch: {choice.finish_reason}", used)
        content = choice.message.content or ""
        try:
            check_finished(choice)
            if question is None or checked(question, content) is None:
                return False
        except BadAnswerError:
            return False
        kept.keep(line.custom_id, content, stage=question.stage)
        return True

    async def _call(self, method: str, path: str, **options: Any) -> bytes:
        """The server's reply; a batch whose reply is lost is not sent twice, the next run looks for it."""
        why = ""
        for attempt in range(self.server.retries + 1):
            try:
                reply = await self.server.client.request(method, path, **options)
            except httpx.TransportError as error:
                why = f"{type(error).__name__} {error}".strip()
                if (method, path) == ("POST", "batches"):
                    break
            else:
                if reply.is_success:
                    return reply.content
                why = f"answered {reply.status_code}: {' '.join(reply.text.split())[:200]}"
                if reply.status_code not in PASSING and reply.status_code < 500:
                    break
            await asyncio.sleep(self.server.pause * 2**attempt)
        raise ConfigError(f"{self._place(path)}: {why}; run again, or set batch: false in prepare.yaml")

    def _place(self, path: str) -> str:
        return f"{self.server.client.base_url}{path}"
