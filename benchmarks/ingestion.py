"""Ingestion: a plain `json.loads` loop against `read_histories`, on the same file, each in its own process.

The loop checks nothing. Both give the same rows, by user and time. A second file is larger than the memory allowed.
"""

import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from operator import itemgetter
from pathlib import Path
from typing import Any

import polars as pl

from personarank_dagster.core.aspects import aspect_columns
from personarank_dagster.defs.graph import output_format
from personarank_dagster.raw.ingestion import read_histories
from personarank_dagster.sample.generator import SampleDataset

MEGABYTES, LARGE_MEGABYTES, ROUNDS, REPEATS = 200, 5_200, 5, 4
USERS = 2_000
KEYS = aspect_columns("amazon")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write_histories(Path(folder) / "histories.jsonl", MEGABYTES)
        ways = {"plain": 1, "one core": 1, "two cores": 2}
        rounds = [{way: _measure(way, path, cores=cores) for way, cores in ways.items()} for _ in range(ROUNDS)]
    same = all(len({found["rows"] for found in each.values()}) == 1 for each in rounds)
    print(f"{MEGABYTES} MB of histories, {rounds[0]['plain']['num_rows']:,} interactions; same rows: {same}")
    for way in ways:
        first, later = (statistics.median(each[way][when] for each in rounds) for when in ("first", "later"))
        ratios = [
            statistics.median(each["plain"][when] / each[way][when] for each in rounds) for when in ("first", "later")
        ]
        peak = max(each[way]["peak"] for each in rounds)
        print(
            f"{way}: {first:.2f} s in a new process ({ratios[0]:.2f} times), {later:.2f} s after it "
            f"({ratios[1]:.2f} times); peak {peak:.0f} MB, of which output {rounds[0][way]['output']:.0f} MB"
        )


def large() -> None:
    """A file of 5 GB from its lines to the published parquet."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_histories(Path(folder) / "histories.jsonl", LARGE_MEGABYTES)
        found = _measure("publish", path, cores=2)
        print(
            f"{path.stat().st_size / 1e9:.1f} GB, {found['num_rows']:,} interactions: {found['seconds']:.0f} s, "
            f"peak {found['peak']:.0f} MB, sorted: {found['sorted']}"
        )


def write_histories(path: Path, megabytes: int) -> Path:
    """Write histories of generated users; when they repeat, they get new names and their texts new words."""
    users = list(SampleDataset("amazon", USERS, 13).histories())
    size = repetition = 0
    with path.open("wb") as file:
        while True:
            for row in users:
                name = f"{row['user_id']}-{repetition}"
                reviews = [_rename(review, name) for review in row["reviews"]]
                size += file.write(json.dumps({"user_id": name, "reviews": reviews}).encode() + b"\n")
                if size >= megabytes * 1_000_000:
                    return path
            repetition += 1


def _rename(review: dict[str, Any], name: str) -> dict[str, Any]:
    texts = {key: text and f"{text} ({name})" for key, text in review["extracted"].items()}
    return {**review, "user_id": name, "extracted": texts}


def _measure(way: str, path: Path, *, cores: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.ingestion", way, str(path), str(cores)]
    environment = os.environ | {"POLARS_MAX_THREADS": str(cores)}
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment).stdout)


def _child(way: str, path: Path, cores: int) -> dict[str, Any]:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    if way == "publish":
        started = time.perf_counter()
        return {**_publish(path), "seconds": time.perf_counter() - started, "peak": _peak()}
    read = _plain if way == "plain" else _ours
    seconds, result = [], None
    for _ in range(REPEATS):
        del result
        started = time.perf_counter()
        result = read(path)
        seconds.append(time.perf_counter() - started)
        if len(seconds) == 1:
            peak = _peak()
    found = {"first": seconds[0], "later": statistics.median(seconds[1:]), "peak": peak}
    if isinstance(result, list):
        return found | {"rows": hash_of(result), "num_rows": len(result), "output": 0}
    rows = result.with_columns(result["timestamp"].dt.epoch("us")).drop("position").rows()
    return found | {"rows": hash_of(rows), "num_rows": len(rows), "output": result.estimated_size() / 1e6}


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def _ours(path: Path) -> pl.DataFrame:
    return read_histories(path, "amazon").frame


def hash_of(rows: list[tuple[Any, ...]]) -> str:
    """Content hash of rows, in order."""
    digest = hashlib.blake2b()
    for row in rows:
        digest.update(repr(row).encode())
    return digest.hexdigest()


def _plain(path: Path) -> list[tuple[Any, ...]]:
    """The plain way: parse each line, take the fields, sort."""
    rows = []
    with path.open("rb") as file:
        for line in file:
            row = json.loads(line)
            for review in row["reviews"]:
                extracted = review.get("extracted") or {}
                fields = (row["user_id"], review["item_id"], review["rating"], review["timestamp"] * 1_000)
                rows.append((*fields, review.get("summary"), *map(extracted.get, KEYS)))
    rows.sort(key=itemgetter(0, 3))
    return rows


def _publish(path: Path) -> dict[str, Any]:
    output = output_format("histories", "amazon")
    ingested = read_histories(path, "amazon", scratch=path.parent / "scratch")
    output.check("histories", ingested.table)
    output.version_of(ingested.table)
    output.write(ingested.table, path.parent)
    keys = output.read(path.parent, lazy=True).select("user_id", "timestamp")
    user, time_ = pl.col("user_id"), pl.col("timestamp")
    later = (user == user.shift(1)) & (time_ >= time_.shift(1))
    ordered = keys.select(((user > user.shift(1)) | later).fill_null(True).all()).collect().item()
    return {"num_rows": ingested.read, "sorted": ordered}


if __name__ == "__main__":
    print(json.dumps(_child(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))))
