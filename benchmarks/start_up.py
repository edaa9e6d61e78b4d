"""Loading the code location against `import dagster` alone: what of it is ours, in seconds of the processor."""

import resource
import statistics
import subprocess
import sys

ROUNDS = 7


def main() -> None:
    alone, whole = [], []
    for _ in range(ROUNDS):
        alone.append(_processor_seconds("import dagster"))
        whole.append(_processor_seconds("import personarank_dagster.definitions"))
    ours = statistics.median(both - one for both, one in zip(whole, alone, strict=True))
    middle = [statistics.median(found) for found in (alone, whole)]
    print(f"import dagster {middle[0]:.2f} s, the definitions {middle[1]:.2f} s: {ours:.2f} s of ours")


def _processor_seconds(code: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
