"""Where a step and its actors give each other files: as its outputs, in a folder or a bucket."""

from collections.abc import Iterator
from contextlib import contextmanager

from personarank_dagster.defs.platform.steps import Step
from personarank_dagster.distributed.exchange import Exchange
from personarank_dagster.storage.scratch import ScratchFolder


@contextmanager
def exchange_of(step: Step) -> Iterator[tuple[Exchange, ScratchFolder]]:
    """The exchange of a step, and the folder of its files, which stay as long as the folder is referred to."""
    outputs = step.outputs
    scratch = ScratchFolder(outputs.folder / "scratch")
    exchange = Exchange(scratch.path)
    if outputs.bucket is not None:
        from personarank_dagster.distributed.bucket_exchange import begin_exchange

        exchange = begin_exchange(outputs.folder, outputs.bucket, scratch.path)
    try:
        yield exchange, scratch
    finally:
        exchange.close()
