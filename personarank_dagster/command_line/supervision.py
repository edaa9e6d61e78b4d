"""One Ctrl-C ends any command: the work is done by a process of its own, which is killed wherever it is.

A signal is no exception in Python before a compiled loop, a training step or a request to a bucket returns. Every
writer here survives a kill at any moment; so the process that the terminal talks to does nothing but wait for it.
"""

import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from tempfile import TemporaryDirectory
from types import FrameType
from typing import NoReturn

import click

# What is put right after the kill may take so long; the rest is for the next run.
TIDYING_SECONDS = 2.5
POLL_SECONDS = 0.05
SIGNALS = (signal.SIGINT, signal.SIGTERM)
UNCHANGED = "nothing was changed"
SHOW_CURSOR = "\033[?25h"


class Interrupted(BaseException):
    """A signal that asks this process to end; `leaves` says what of its work stays, "" where none was begun."""

    def __init__(self, number: int, leaves: str = "") -> None:
        self.number, self.leaves = number, leaves
        super().__init__(number)


def end(interrupted: Interrupted) -> NoReturn:
    """Say what is left, and end this process at once."""
    # No stream: a second signal may have come while the first one writes to it.
    os.write(sys.stderr.fileno(), f"interrupted: {interrupted.leaves or UNCHANGED}\n".encode())
    os._exit(128 + interrupted.number)


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise Interrupted for Ctrl-C and SIGTERM in here."""
    before = {number: signal.signal(number, _raise) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def supervise(work: Callable[[], None], *, tidy: Callable[[], None], leaves: str) -> int:
    """Do the work in a process of its own, and return its exit code.

    An interrupt kills it with all that it has started, and is raised after `tidy`; a second one ends this at once.
    """
    with TemporaryDirectory(prefix="personarank-", ignore_cleanup_errors=True) as folder:
        return _supervise(work, tidy, leaves, folder)


def _supervise(work: Callable[[], None], tidy: Callable[[], None], leaves: str, temporary: str) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    worker = os.fork()
    if worker == 0:
        # What libraries write there goes away with it, also after a kill.
        os.environ["TMPDIR"] = tempfile.tempdir = temporary
        _work(work)
    try:
        code = _await(worker)
    except Interrupted as interrupted:
        for number in SIGNALS:
            signal.signal(number, lambda number, _: end(Interrupted(number, leaves)))
        _kill(worker)
        _within(TIDYING_SECONDS, tidy)
        raise Interrupted(interrupted.number, leaves) from None
    if code < 0:
        _within(TIDYING_SECONDS, tidy)
    return code


def _await(worker: int) -> int:
    """Exit code of the worker.

    Asked for again and again: a signal may be given to a thread of a library, and then wakes up no `waitpid`.
    """
    while not (ended := os.waitpid(worker, os.WNOHANG))[0]:
        time.sleep(POLL_SECONDS)
    return os.waitstatus_to_exitcode(ended[1])


def _raise(number: int, _frame: FrameType | None) -> NoReturn:
    raise Interrupted(number)


def _work(work: Callable[[], None]) -> NoReturn:
    """In a process group of its own: Ctrl-C goes to all of the group of the terminal."""
    from personarank_dagster.encoding.launch import end_with_parent

    os.setpgid(0, 0)
    end_with_parent()
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    code = 1
    try:
        code = _exit_code(work)
        sys.stdout.flush()
    except BrokenPipeError:
        pass
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        with suppress(OSError):
            sys.stderr.flush()
        os._exit(code)


def _exit_code(work: Callable[[], None]) -> int:
    try:
        work()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0


def _kill(worker: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(worker, signal.SIGKILL)
    with suppress(ProcessLookupError):
        os.kill(worker, signal.SIGKILL)
    with suppress(ChildProcessError):
        os.waitpid(worker, 0)
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{SHOW_CURSOR}")


def _within(seconds: float, tidy: Callable[[], None]) -> None:
    """Tidy for so long at most: a bucket that does not answer holds nobody up."""
    thread = threading.Thread(target=tidy, daemon=True)
    thread.start()
    thread.join(seconds)
