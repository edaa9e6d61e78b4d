"""Which process did it, and whether it is still there."""

import os
import socket


def this_process() -> str:
    """Host and process id of this process."""
    return f"{socket.gethostname()}:{os.getpid()}"


def is_of_this_machine(process: str) -> bool:
    """Whether something can be known of a process."""
    return process.rpartition(":")[0] == socket.gethostname()


def is_dead(process: str) -> bool:
    """Whether a process of this machine is gone; of another machine nothing is known."""
    if not is_of_this_machine(process):
        return False
    try:
        os.kill(int(process.rpartition(":")[2]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
