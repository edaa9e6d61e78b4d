"""A client and the stand-in server, without a network between them."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import msgspec

from personarank_dagster.preparation.client.asking import Answers, Asker, Rules
from personarank_dagster.preparation.client.kept_answers import KeptAnswers, Tariff
from personarank_dagster.preparation.client.pace import Pace
from personarank_dagster.preparation.client.server import Server
from personarank_dagster.preparation.questions import Question
from personarank_dagster.preparation.stand_in import StandIn

ADDRESS = "http://stand-in/v1/"
SCHEMA = {
    "type": "object",
    "properties": {"summary": {"type": "string"}},
    "required": ["summary"],
    "additionalProperties": False,
}


class Summary(msgspec.Struct, forbid_unknown_fields=True):
    summary: str


def question(row: int, text: str = "", **options: Any) -> Question:
    user = json.dumps({"text": f"{text or 'guitar strings sound bright'} {row}"})
    given: dict[str, Any] = {"stage": "item_summaries", "system": "Summarise.", "answer_schema": SCHEMA}
    check = lambda content: msgspec.json.decode(content, type=Summary).summary  # noqa: E731
    return Question(row=f"i{row}", user=user, check=check, **(given | options))


def ask(
    path: Path,
    stand_in: StandIn | httpx.AsyncBaseTransport,
    questions: Sequence[Question],
    *,
    tariff: Tariff | None = None,
    at_once: int = 8,
    retries: int = 6,
    **rules: Any,
) -> Answers:
    """What the client makes of the server's answers; the store at `path` keeps them."""

    async def asked() -> Answers:
        transport = httpx.ASGITransport(stand_in.app()) if isinstance(stand_in, StandIn) else stand_in
        async with httpx.AsyncClient(base_url=ADDRESS, transport=transport) as client:
            with KeptAnswers(path) as kept:
                server = Server(
                    client,
                    model="m",
                    kept=kept,
                    tariff=tariff or Tariff(),
                    pace=Pace(at_once),
                    retries=retries,
                    pause=0.001,
                )
                return await Asker(server, Rules(base_url=ADDRESS, model="m", workers=at_once, **rules)).ask(
                    questions
                )

    return asyncio.run(asked())
