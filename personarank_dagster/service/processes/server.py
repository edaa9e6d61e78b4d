"""The processes of the service: one socket, a worker or several, and what they do beside answering."""

import asyncio
import gc
import itertools
import signal
import socket
import sys
import threading
import time
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass

import uvicorn
import uvloop

from personarank_dagster.core.errors import ConfigError, StorageError, reason_of
from personarank_dagster.service.answers import Answerer
from personarank_dagster.service.app import Service
from personarank_dagster.service.counters import Counters
from personarank_dagster.service.datasets import Datasets, Place
from personarank_dagster.service.experiment.arms import Arms
from personarank_dagster.service.experiment.impressions import Impressions
from personarank_dagster.service.explore.pages import page_routes
from personarank_dagster.service.lines import Lines
from personarank_dagster.service.processes.protocol import TimedProtocol, expire_all
from personarank_dagster.service.processes.worker_processes import run_workers
from personarank_dagster.service.settings import Settings

BACKLOG = 2048
DRAIN_SECONDS = 30
KEEP_ALIVE_SECONDS = 75
# After so long a worker answers 503 for what is still being opened, as a large copy from a bucket.
OPENING_SECONDS = 30
FLUSH_SECONDS, TICKS_A_SECOND = 0.2, 5


def serve(settings: Settings, places: Sequence[Place]) -> None:
    """Serve until SIGINT or SIGTERM, and answer what has come until then. Raises ConfigError for a taken address."""
    listener = listen(settings)
    counters = Counters(settings.workers)
    names = ", ".join(place.name for place in places)
    print(f"serving {names} on {settings.url}; end it with Ctrl-C", file=sys.stderr, flush=True)
    if settings.in_browser:
        # What it asks waits at the socket until a worker accepts.
        threading.Thread(target=webbrowser.open, args=(settings.url,), daemon=True).start()
    if settings.workers == 1:
        _work(settings, places, counters, listener)
    else:
        run_workers(settings.workers, lambda worker: _be_worker(worker, settings, places, counters, listener))


def listen(settings: Settings) -> socket.socket:
    """The socket that all workers accept from."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        raise ConfigError(
            f"--host {settings.host} --port {settings.port}: {reason_of(error)}; take another address"
        ) from error
    listener.setblocking(False)
    return listener


def _be_worker(
    worker: int, settings: Settings, places: Sequence[Place], counters: Counters, listener: socket.socket
) -> None:
    counters.use_row(worker)
    _work(settings, places, counters, listener)


def _work(settings: Settings, places: Sequence[Place], counters: Counters, listener: socket.socket) -> None:
    worker = Worker.of(settings, places, counters)
    _open_first(worker.datasets)
    # What is opened stays: a collection that looked at all of it would keep answers waiting.
    gc.freeze()
    # Until uvicorn listens to signals itself, and when it raises them once more in the end.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _, __: setattr(worker.server, "should_exit", True))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(worker.run(listener))


def _open_first(datasets: Datasets) -> None:
    """Open what is published before the first request is accepted: another worker may be ready for it."""
    threads = [threading.Thread(target=dataset.open, daemon=True) for dataset in datasets.by_name.values()]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + OPENING_SECONDS
    for thread in threads:
        thread.join(max(0, deadline - time.monotonic()))


@dataclass(frozen=True)
class Worker:
    """One process that answers, and what it does beside that."""

    server: uvicorn.Server
    datasets: Datasets
    settings: Settings
    log: Lines | None
    impressions: Impressions | None

    @classmethod
    def of(cls, settings: Settings, places: Sequence[Place], counters: Counters) -> "Worker":
        """A worker that has not opened anything yet. Raises StorageError if impressions cannot be written."""
        datasets = Datasets(places)
        impressions = Impressions(settings.impressions) if settings.impressions else None
        log = Lines(sys.stdout.fileno()) if settings.access_log else None
        answerer = Answerer(datasets, settings.limits, Arms(settings.share, settings.shadow), counters, impressions)
        server = uvicorn.Server(_config(Service(settings, answerer, log, page_routes(datasets, settings.limits))))
        return cls(server, datasets, settings, log, impressions)

    async def run(self, listener: socket.socket) -> None:
        """Answer until a signal, and what is in work then."""
        beside = asyncio.create_task(self._beside())
        try:
            await self.server.serve(sockets=[listener])
        finally:
            beside.cancel()
            self._flush()
            if self.impressions is not None:
                self.impressions.close()

    async def _beside(self) -> None:
        for tick in itertools.count():
            await asyncio.sleep(FLUSH_SECONDS)
            self._flush()
            if tick % TICKS_A_SECOND == 0:
                expire_all(self.server.server_state.connections, self.settings.limits.seconds)
                for dataset in self.datasets.by_name.values():
                    dataset.keep_up()

    def _flush(self) -> None:
        if self.log is not None:
            self.log.flush()
        if self.impressions is not None:
            try:
                self.impressions.flush()
            except StorageError as error:
                print(error, file=sys.stderr, flush=True)


def _config(app: Service) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=TimedProtocol,
        ws="none",
        loop="none",
        lifespan="off",
        interface="asgi3",
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        backlog=BACKLOG,
    )
