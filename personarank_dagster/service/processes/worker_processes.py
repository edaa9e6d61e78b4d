"""Workers that are forked from one process, started again if they die, and ended with it."""

import os
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType

POLL_SECONDS = 0.1
# A worker that dies sooner is not started again at once.
SHORT_LIFE_SECONDS = 5.0

Work = Callable[[int], None]


def run_workers(count: int, work: Work) -> None:
    """Let so many processes work until SIGINT or SIGTERM, which they get too, and wait for them."""
    _Workers(count, work).run()


class _Workers:
    def __init__(self, count: int, work: Work) -> None:
        self._count, self._work = count, work
        self._ending = False
        self._running: dict[int, tuple[int, float]] = {}

    def run(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._end)
        for worker in range(self._count):
            self._start(worker)
        while self._running:
            ended, status = os.waitpid(-1, os.WNOHANG)
            if ended:
                self._replace(ended, os.waitstatus_to_exitcode(status))
            else:
                time.sleep(POLL_SECONDS)

    def _start(self, worker: int) -> None:
        process = os.fork()
        if process == 0:
            _be(worker, self._work)
        self._running[process] = worker, time.monotonic()

    def _replace(self, process: int, code: int) -> None:
        worker, begun = self._running.pop(process)
        if self._ending:
            return
        print(f"worker {worker} ended with {code} and is started again", file=sys.stderr, flush=True)
        if time.monotonic() - begun < SHORT_LIFE_SECONDS:
            time.sleep(1)
        self._start(worker)

    def _end(self, _number: int, _frame: FrameType | None) -> None:
        self._ending = True
        for process in self._running:
            os.kill(process, signal.SIGTERM)


def _be(worker: int, work: Work) -> None:
    from personarank_dagster.encoding.launch import end_with_parent

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    end_with_parent()
    code = 1
    try:
        work(worker)
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
