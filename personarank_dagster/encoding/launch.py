"""torchrun for a process that may be killed: neither it nor its ranks outlive whoever started them.

python -m personarank_dagster.encoding.launch OPTIONS-OF-TORCHRUN
"""

import ctypes
import os
import signal
import sys

# Of Linux, <sys/prctl.h>.
PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Have the system kill this process when its parent is gone, also by SIGKILL. Linux only; nothing elsewhere."""
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    # Before torch is imported, which takes seconds.
    end_with_parent()
    from torch.distributed.run import main

    main()
