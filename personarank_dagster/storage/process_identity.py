"""Which process did it, and whether it is still there."""

import os
import socket

import psutil


def this_process() -> str:
    """Host, process id and the second in which this process began: ids are used again."""
    return f"{socket.gethostname()}:{os.getpid()}:{psutil.Process().create_time():.0f}"


def is_of_this_machine(process: str) -> bool:
    """Whether something can be known of a process."""
    return process.partition(":")[0] == socket.gethostname()


def is_dead(process: str) -> bool:
    """Whether a process of this machine is gone, or nothing of it is left but its exit code, for which nobody asks.

    Of another machine nothing is known.
    """
    if not is_of_this_machine(process):
        return False
    pid, created = process.split(":")[1:]
    try:
        found = psutil.Process(int(pid))
        return f"{found.create_time():.0f}" != created or found.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
