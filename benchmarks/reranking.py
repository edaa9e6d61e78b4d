"""Reranking against a plain loop over users, metrics, and a million users."""

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.generated_lists import (
    CANDIDATES,
    INTERACTIONS,
    ITEMS,
    PERSONAS,
    candidate_lists,
    interaction_index,
    mapped_vectors,
    names,
    persona_index,
    unit_vectors,
    write_candidates,
)
from personarank_dagster.defs.graph import output_format
from personarank_dagster.ranking import metrics
from personarank_dagster.ranking.blending import NUM_FOLDS, Blend
from personarank_dagster.ranking.cross_fitting import LearnedBlend
from personarank_dagster.ranking.ranker import Ranker, VectorTable, blocks, order_pairs
from personarank_dagster.ranking.signals import SIGNALS, item_counts
from personarank_dagster.storage.reranked import spool

USERS, LOOP_USERS = 100_000, 300
GAMMA, ALPHA, ROUNDS = 0.65, 0.5, 3


def main() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    for dimension in (384, 1024):
        _against_the_loop(dimension)
    _metrics()


def blends() -> None:
    """Lists by a learned blend against those by one weight, from candidates to a table, in turns, on all cores."""
    rng = np.random.default_rng(0)
    interactions = VectorTable(unit_vectors(rng, USERS * INTERACTIONS, 384), interaction_index(USERS))
    personas = VectorTable(unit_vectors(rng, ITEMS * PERSONAS, 384), persona_index(ITEMS))
    _, _, candidates = candidate_lists(USERS, rng)
    ranker = Ranker.of(interactions, personas, k=INTERACTIONS, gamma=GAMMA)
    counts = item_counts(candidates)
    weights = rng.normal(size=len(SIGNALS))
    learned = LearnedBlend(weights, np.tile(weights, (NUM_FOLDS, 1)), pl.Series(dtype=pl.String), counts)
    ways: dict[str, Any] = {"one weight": Blend(ALPHA), "learned": learned}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(ROUNDS + 1):
        for name, blend in ways.items():
            started = time.perf_counter()
            for block in blocks(candidates):
                blend.rerank(ranker, block)
            if turn:
                seconds[name].append(time.perf_counter() - started)
    ratio = statistics.median(seconds["learned"]) / statistics.median(seconds["one weight"])
    told = ", ".join(f"{name} {statistics.median(each):.2f} s" for name, each in seconds.items())
    print(f"{USERS:,} users x {CANDIDATES} x {PERSONAS}, 384 dimensions: {told}; {ratio:.2f} times")


def million() -> None:
    """Reranking of growing numbers of users from parquet to parquet: seconds and memory beside the mapped vectors."""
    for users in (10_000, 100_000, 1_000_000):
        code = f"from benchmarks.reranking import stream; stream({users})"
        print(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip())


def stream(users: int) -> None:
    """Rerank this many users in blocks, in this process."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
        vectors = mapped_vectors(Path(folder) / "vectors.npy", 100_000, 384, rng)
        write_candidates(Path(folder) / "candidates.parquet", users, rng)
        index = interaction_index(users).with_columns(vector_row=pl.col("vector_row") % len(vectors))
        personas = persona_index(ITEMS).with_columns(vector_row=pl.col("vector_row") % len(vectors))
        candidates = pl.scan_parquet(Path(folder) / "candidates.parquet")
        with _Peak() as peak:
            started = time.perf_counter()
            ranker = Ranker.of(
                VectorTable(vectors, index), VectorTable(vectors, personas), k=INTERACTIONS, gamma=GAMMA
            )
            parts = (ranker.rerank(block, lambda ids: np.full(len(ids), ALPHA)) for block in blocks(candidates))
            table = spool(parts, Path(folder) / "scratch")
            form = output_format("reranked_candidates", "amazon")
            ranked = time.perf_counter() - started
            (Path(folder) / "out").mkdir()
            form.check("lists", table)
            form.write(table, Path(folder) / "out")
            form.version_of(table)
        whole = time.perf_counter() - started
        print(
            f"{users:,} users: ranked in {ranked:.1f} s, checked, hashed and written in {whole - ranked:.1f} s, ",
            end="",
        )
        print(
            f"peak {peak.bytes / 2**30:.2f} GiB beside mapped files, of which the indexes {peak.before / 2**30:.2f}"
        )


class _Peak:
    """Highest anonymous memory of this process while it is open."""

    def __enter__(self) -> "_Peak":
        self.before = self.bytes = _anonymous()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.01):
            self.bytes = max(self.bytes, _anonymous())


def _anonymous() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def _against_the_loop(dimension: int) -> None:
    rng = np.random.default_rng(0)
    interactions = VectorTable(unit_vectors(rng, USERS * INTERACTIONS, dimension), interaction_index(USERS))
    personas = VectorTable(unit_vectors(rng, ITEMS * PERSONAS, dimension), persona_index(ITEMS))
    items, scores, candidates = candidate_lists(USERS, rng)
    ranker = Ranker.of(interactions, personas, k=INTERACTIONS, gamma=GAMMA)
    ranker.rerank(candidates.head(CANDIDATES), _half)
    ways = {
        "loop": lambda: _loop(interactions.vectors, personas.vectors, items[:LOOP_USERS], scores[:LOOP_USERS]),
        "scores and order": lambda: _scores_and_order(ranker, candidates),
        "table with reasons": lambda: pl.concat(ranker.rerank(block, _half) for block in blocks(candidates)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            started = time.perf_counter()
            result = way()
            users = LOOP_USERS if name == "loop" else USERS
            seconds[name].append((time.perf_counter() - started) / users)
            if name == "loop":
                expected = result
    same = result["item_id"].head(LOOP_USERS * CANDIDATES).to_list() == list(names(ITEMS)[expected.ravel()])
    read = USERS * (CANDIDATES * PERSONAS + INTERACTIONS) * dimension * 2
    print(f"{USERS:,} users x {CANDIDATES} x {PERSONAS}, {dimension} dimensions, one core; same order: {same}")
    for name, each in seconds.items():
        ratio = statistics.median(loop / ours for loop, ours in zip(seconds["loop"], each, strict=True))
        rate = CANDIDATES / statistics.median(each) / 1e6
        bandwidth = read / USERS / statistics.median(each) / 1e9
        print(f"  {name}: {rate:.2f} million pairs/s, {ratio:.1f} times the loop, {bandwidth:.1f} GB/s read")


def _scores_and_order(ranker: Ranker, candidates: pl.DataFrame) -> None:
    for block in blocks(candidates):
        lists = ranker.lists(block)
        alphas = np.full(len(lists), ALPHA)
        order_pairs(lists, block["candidate_score"].to_numpy(), ranker.score(lists).scores, alphas)


def _half(users: pl.Series) -> np.ndarray:
    return np.full(len(users), ALPHA)


def _metrics() -> None:
    rng = np.random.default_rng(0)
    _, _, candidates = candidate_lists(USERS, rng)
    rank = pl.Series("rank", np.concatenate([rng.permutation(CANDIDATES) + 1 for _ in range(USERS)]), dtype=pl.UInt32)
    lists = candidates.with_columns(rank)
    truth = lists.filter(pl.col("rank") == (pl.col("user_id").hash() % 40).cast(pl.UInt32)).select(
        "user_id", "item_id"
    )
    missing = lists["user_id"].unique().to_frame().join(truth, on="user_id", how="anti")
    truth = pl.concat([truth, missing.with_columns(item_id=pl.lit("none"))])
    ranks = metrics.hit_ranks(lists, truth)
    places = metrics.place_numbers(ranks["reranked"])
    ordered = lists.sort("user_id", "rank").group_by("user_id", maintain_order=True).agg("item_id")
    by_user = dict(ordered.iter_rows())
    targets = dict(truth.iter_rows())
    with tempfile.TemporaryDirectory() as folder:
        lists.write_parquet(Path(folder) / "lists.parquet")
        lists.sort("user_id", "rank").group_by("user_id", maintain_order=True).agg(
            results=pl.struct("item_id", "candidate_rank")
        ).write_ndjson(Path(folder) / "lists.jsonl")
        scan = pl.scan_parquet(Path(folder) / "lists.parquet")
        lines, _ = _timed(lambda: _python_metrics(_python_lists(Path(folder) / "lists.jsonl"), targets), 2)
        loop, expected = _timed(lambda: _python_metrics(by_user, targets), 2)
        memory, got = _timed(lambda: metrics.metrics_at(places, [5, 10, 20]), 20)
        disk, _ = _timed(
            lambda: metrics.metrics_at(
                metrics.place_numbers(metrics.hit_ranks(scan, truth)["reranked"]), [5, 10, 20]
            ),
            5,
        )
    equal = max(abs(got[name] - expected[name]) for name in expected)
    print(f"metrics of {USERS:,} users: Python loop {loop * 1e3:.0f} ms; largest difference {equal:.0e}")
    print(f"  from places in memory {memory * 1e3:.2f} ms, {loop / memory:.0f} times")
    print(f"  from lists in parquet {disk * 1e3:.0f} ms, {loop / disk:.1f} times; {lines / disk:.1f} times the loop")
    print(f"  over JSON Lines of the same lists, which takes {lines * 1e3:.0f} ms with reading")
    interval, _ = _timed(lambda: metrics.lifts(places, places[::-1], [5, 10, 20]), 3)
    print(f"  bootstrap of 2,000 resamples {interval * 1e3:.0f} ms")


def _python_metrics(lists: dict[str, list[str]], truth: dict[str, str]) -> dict[str, float]:
    """A user, a metric, a cut-off after the other, as the public evaluation does it."""
    totals: dict[str, float] = {f"{name}@{k}": 0.0 for k in (5, 10, 20) for name in metrics.METRIC_NAMES}
    for user, items in lists.items():
        for k in (5, 10, 20):
            for place, item in enumerate(items[:k], 1):
                if item == truth[user]:
                    totals[f"HIT@{k}"] += 1
                    totals[f"MRR@{k}"] += 1 / place
                    totals[f"NDCG@{k}"] += 1 / math.log2(place + 1)
                    break
    return {name: total / len(lists) for name, total in totals.items()}


def _python_lists(path: Path) -> dict[str, list[str]]:
    with path.open() as file:
        rows = (json.loads(line) for line in file)
        return {row["user_id"]: [place["item_id"] for place in row["results"]] for row in rows}


def _timed(way: Callable[[], dict], rounds: int) -> tuple[float, dict]:
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        result = way()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds), result


def _loop(interactions: np.ndarray, personas: np.ndarray, items: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The plain way: one user, one candidate after the other, each with its personas at once."""
    weights = GAMMA ** np.arange(INTERACTIONS)[::-1].astype(np.float32)
    lists = []
    for user, own in enumerate(items):
        profile = weights @ interactions[user * INTERACTIONS : (user + 1) * INTERACTIONS].astype(np.float32)
        profile /= np.linalg.norm(profile)
        best = [
            float((personas[item * PERSONAS : (item + 1) * PERSONAS].astype(np.float32) @ profile).max())
            for item in own
        ]
        blended = [
            ALPHA * (persona - min(best)) / (max(best) - min(best))
            + (1 - ALPHA) * (score - min(scores[user])) / (max(scores[user]) - min(scores[user]))
            for persona, score in zip(best, scores[user], strict=True)
        ]
        lists.append(own[sorted(range(CANDIDATES), key=lambda place: -blended[place])])
    return np.stack(lists)
