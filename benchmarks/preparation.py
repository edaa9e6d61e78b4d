"""What asking costs beside the server: 10,000 questions, a hundred in flight, of one that takes all or eight."""

import asyncio
import multiprocessing
import os
import socket
import tempfile
import time
from pathlib import Path

import httpx
import psutil

from personarank_dagster.preparation.client.asking import Asker, Rules
from personarank_dagster.preparation.client.kept_answers import KeptAnswers, Tariff
from personarank_dagster.preparation.client.pace import Pace
from personarank_dagster.preparation.client.server import Server
from personarank_dagster.preparation.questions import Question
from personarank_dagster.preparation.stages.item_summaries import SCHEMA
from personarank_dagster.preparation.stand_in import StandIn, serve

QUESTIONS = int(os.environ.get("PERSONARANK_QUESTIONS", "10000"))
IN_FLIGHT = 100


def main() -> None:
    print("| server allows | questions | seconds | processor, ms a question | in flight, last | memory, MB | calls |")
    print("|---|---|---|---|---|---|---|")
    for at_once in (None, 8):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        stand_in = StandIn(latency=0.02, at_once=at_once)
        server = multiprocessing.get_context("spawn").Process(target=serve, args=(stand_in, port), daemon=True)
        server.start()
        _wait_for(port)
        with tempfile.TemporaryDirectory() as folder:
            print(asyncio.run(_asked(Path(folder), port, at_once)))
        server.terminate()


async def _asked(folder: Path, port: int, at_once: int | None) -> str:
    address, pace = f"http://127.0.0.1:{port}/v1/", Pace(IN_FLIGHT)
    limits = httpx.Limits(max_connections=IN_FLIGHT)
    memory: list[int] = []
    begun, processor = time.perf_counter(), time.process_time()
    async with httpx.AsyncClient(base_url=address, limits=limits, timeout=60) as client:
        with KeptAnswers(folder / "answers.sqlite") as kept:
            server = Server(client, model="m", kept=kept, tariff=Tariff(), pace=pace, retries=20, pause=0.05)
            asker = Asker(server, Rules(base_url=address, model="m", workers=IN_FLIGHT))

            def on_answer(done: int, total: int) -> None:
                if done in (total // 10, total):
                    memory.append(psutil.Process().memory_info().rss >> 20)

            await asker.ask(list(map(_question, range(QUESTIONS))), on_answer=on_answer)
    seconds, used = time.perf_counter() - begun, time.process_time() - processor
    each, flight = 1000 * used / QUESTIONS, f"{pace.limit:.0f}, at most {pace.peak}"
    allows = at_once or "all"
    megabytes = " to ".join(map(str, memory))
    numbers = f"{QUESTIONS:,} | {seconds:.1f} | {each:.2f} | {flight} | {megabytes} | {server.num_sent:,}"
    return f"| {allows} | {numbers} |"


def _question(row: int) -> Question:
    return Question(
        stage="item_summaries",
        row=str(row),
        system="Summarise.",
        user=f'{{"text": "bright strings on an old guitar, number {row}"}}',
        answer_schema=SCHEMA,
        check=lambda content: content,
    )


def _wait_for(port: int) -> None:
    for _ in range(300):
        with socket.socket() as trial:
            if trial.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError(f"no server on port {port}")
