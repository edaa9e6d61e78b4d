"""Encode on several devices: a process for each, which adds blocks of its own to the store."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path

import msgspec
import numpy as np
import polars as pl

from personarank_dagster.core.encoders import BaseModel, Precision, Side
from personarank_dagster.core.errors import EncoderError
from personarank_dagster.vectors.text_keys import KeyArray

TEXTS, JOB, ERRORS = "texts.ipc", "job.json", "errors.txt"


class EncodingJob(msgspec.Struct, frozen=True):
    """What a process is to do with the texts beside it."""

    base: BaseModel
    side: Side
    store: str
    device: str
    precision: Precision
    threads: int


def encode_in_processes(
    texts: pl.Series,
    keys: KeyArray,
    base: BaseModel,
    side: Side,
    store: Path,
    devices: Sequence[str],
    precision: Precision,
    scratch: Path,
    advance: Callable[[int], None],
) -> None:
    """Encode texts of one side, each device its share, into the store.

    Raises EncoderError with the message of the first process that fails; the others are stopped. What any of them
    has finished stays in the store.
    """
    threads = max(1, (os.cpu_count() or 1) // len(devices))
    jobs = [EncodingJob(base, side, str(store), device, precision, threads) for device in devices]
    folders = _write_jobs(texts, keys, jobs, scratch)
    processes = [_start(folder) for folder in folders]
    try:
        with ThreadPoolExecutor(len(processes)) as pool:
            work = [pool.submit(_follow, process, advance) for process in processes]
            finished, _ = wait(work, return_when=FIRST_EXCEPTION)
            for process in processes:
                process.terminate()
            failed = [i for i, one in enumerate(work) if one in finished and one.exception()]
            if failed:
                raise EncoderError(_failure(failed[0], processes, folders, devices))
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _write_jobs(texts: pl.Series, keys: KeyArray, jobs: Sequence[EncodingJob], scratch: Path) -> list[Path]:
    """Deal the texts out by length, so that every share has about the same number of tokens."""
    by_length = np.argsort(-texts.str.len_bytes().to_numpy().astype(np.int64), kind="stable")
    folders = []
    for number, job in enumerate(jobs):
        share = by_length[number :: len(jobs)]
        folder = scratch / f"process-{number}"
        folder.mkdir()
        table = pl.DataFrame({"text": texts.gather(share), "high": keys[share, 0], "low": keys[share, 1]})
        table.write_ipc(folder / TEXTS)
        (folder / JOB).write_bytes(msgspec.json.encode(job))
        folders.append(folder)
    return folders


def _start(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "personarank_dagster.encoding.worker", str(folder)]
    with (folder / ERRORS).open("w") as errors:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)


def _follow(process: subprocess.Popen[str], advance: Callable[[int], None]) -> None:
    """Pass on how many texts the process says it finished, until it ends."""
    assert process.stdout is not None
    with process.stdout as lines:
        for line in lines:
            advance(int(line))
    if process.wait():
        raise EncoderError(f"exit code {process.returncode}")


def _failure(
    number: int, processes: Sequence[subprocess.Popen[str]], folders: Sequence[Path], devices: Sequence[str]
) -> str:
    lines = (folders[number] / ERRORS).read_text().strip().splitlines()
    code = processes[number].returncode
    reason = lines[-1] if lines else f"killed by signal {-code}" if code < 0 else f"exit code {code}"
    return (
        f"encoding process {number + 1} of {len(processes)} on {devices[number]}: {reason}; "
        "what was finished is kept, run again to go on"
    )
