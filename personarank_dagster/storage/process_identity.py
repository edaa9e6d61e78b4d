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
    """Whether a process of this machine is gone; of another machine nothing is known."""
    if not is_of_this_machine(process):
        return False
    pid, created = process.split(":")[1:]
    try:
        return f"{psutil.Process(int(pid)).create_time():.0f}" != created
    except psutil.NoSuchProcess:
        return True
