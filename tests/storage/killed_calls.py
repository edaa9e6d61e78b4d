"""Calls in a process of their own that is killed before one of its steps on disk or in a bucket."""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

from s3fs import S3FileSystem

# What Python reports before it does it (sys.addaudithook); with the requests to a bucket, all that changes a store.
STEPS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "fcntl.flock"}


def ends_before(step: int | None, call: Callable[[], object]) -> bool:
    """Whether a process ended before the call did: killed before that step, counted from 0; None: call it here."""
    if step is None:
        call()
        return False
    pid = fork(lambda: (_kill_before(step), call()))
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, -signal.SIGKILL)
    return code != 0


def fork(call: Callable[[], object]) -> int:
    """Process id of a copy of this process that does nothing but the call; its exit code is 1 if that raises."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        call()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _kill_before(step: int) -> None:
    steps = iter(range(step))
    request = S3FileSystem._call_s3

    def count(event: str, _: object = None) -> None:
        if event in STEPS and next(steps, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)

    async def counted(*arguments: Any, **options: Any) -> Any:
        count("open")
        return await request(*arguments, **options)

    S3FileSystem._call_s3 = counted
    sys.addaudithook(count)
