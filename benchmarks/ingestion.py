"""Ingestion: a plain `json.loads` loop against `read_histories`, on the same file, each in its own process.

The loop checks nothing. Both give the same rows, by user and time. A second file is larger than the memory allowed.
"""

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

from personarank_dagster.core.datasets import aspect_columns
from personarank_dagster.core.sample_data import SampleDataset
from personarank_dagster.storage.formats import output_format
from personarank_dagster.storage.ingestion import read_histories

MEGABYTES, LARGE_MEGABYTES, ROUNDS = 200, 5_000, 5
USERS = 2_000
KEYS = aspect_columns("amazon")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write_histories(Path(folder) / "histories.jsonl", MEGABYTES)
        ways = {"plain": 1, "one": 1, "two": 2}
        rounds = [{way: _measure(way, path, cores=cores) for way, cores in ways.items()} for _ in range(ROUNDS)]
    middle = {way: statistics.median(found[way]["seconds"] for found in rounds) for way in ways}
    same = all(len({found[way]["rows"] for way in ways}) == 1 for found in rounds)
    print(f"{MEGABYTES} MB of histories, {rounds[0]['one']['num_rows']:,} interactions; same rows: {same}")
    for way, name in {"one": "one core", "two": "two cores"}.items():
        ratios = [found["plain"]["seconds"] / found[way]["seconds"] for found in rounds]
        print(f"{name}: {middle[way]:.2f} s, loop {middle['plain']:.2f} s: {statistics.median(ratios):.2f} times")
    for way in ways:
        last = rounds[-1][way]
        print(f"{way}: peak {last['peak']:.0f} MB, of which output {last['output']:.0f} MB")


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
    started = time.perf_counter()
    found: dict[str, Any] = {}
    if way == "plain":
        rows = _plain(path)
        found["seconds"] = time.perf_counter() - started
        found |= {"num_rows": len(rows), "output": sum(map(sys.getsizeof, rows)) / 1e6}
    elif way == "publish":
        found = _publish(path)
        found["seconds"] = time.perf_counter() - started
    else:
        table = read_histories(path, "amazon").frame
        found["seconds"] = time.perf_counter() - started
        found |= {"num_rows": table.height, "output": table.estimated_size() / 1e6}
    found["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    if way in ("one", "two"):
        times = table.with_columns(table["timestamp"].dt.epoch("us")).drop("position")
        rows = times.rows()
    if way != "publish":
        found["rows"] = hash_of(rows)
    return found


def hash_of(rows: list[tuple[Any, ...]]) -> str:
    """Content hash of rows, in order."""
    import hashlib

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
    import polars as pl

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
