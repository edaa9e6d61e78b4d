"""A process of `encode_in_processes`: encode the texts of a folder into a store; say on stdout how many are done."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import polars as pl

from personarank_dagster.core.encoders import EncodedTexts
from personarank_dagster.core.errors import PersonarankError
from personarank_dagster.encoding.processes import JOB, TEXTS, EncodingJob
from personarank_dagster.vectors.vector_store import VectorStore


def work(folder: Path) -> None:
    """Do the job that is written in the folder."""
    import torch

    from personarank_dagster.encoding.encoder import load_base
    from personarank_dagster.encoding.engine import Engine

    job = msgspec.json.decode((folder / JOB).read_bytes(), type=EncodingJob)
    torch.set_num_threads(job.threads)
    texts = pl.read_ipc(folder / TEXTS)
    store = VectorStore(Path(job.store).parent, Path(job.store).name)

    def encode(windows: Iterable[list[str]]) -> Iterator[EncodedTexts]:
        for encoded in Engine(load_base(job.base, job.device), job.precision, job.side).stream(windows):
            yield encoded
            print(len(encoded.places), flush=True)

    store.add_texts(texts["text"], texts.select("high", "low").to_numpy(), encode)


if __name__ == "__main__":
    try:
        work(Path(sys.argv[1]))
    except PersonarankError as error:
        sys.exit(str(error))
