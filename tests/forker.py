"""Runs `personarank` in forked processes, each as killable as any other, without importing torch anew for each.

Reads lines of `{"arguments": […], "output": path, "constants": {"module:NAME": value}}`; answers each
with its process id, and with its status when it is gone.
"""

import importlib
import json
import os
import sys
import traceback


def main() -> None:
    import personarank_dagster.command_line.console
    import personarank_dagster.encoding.train  # noqa: F401

    for line in sys.stdin:
        request = json.loads(line)
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            _run(request["arguments"], request["output"], request["constants"])
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def _run(arguments: list[str], output: str, constants: dict[str, float]) -> None:
    from personarank_dagster.command_line.cli import main as personarank

    for place, value in constants.items():
        module, name = place.split(":")
        setattr(importlib.import_module(module), name, value)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    code = 1
    try:
        personarank(arguments)
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
