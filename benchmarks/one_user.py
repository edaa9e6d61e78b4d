"""One user through `Reranker`, with a million items in the index."""

import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.generated_lists import INTERACTIONS, PERSONAS, interaction_index, names, persona_index, unit_vectors
from personarank_dagster.defs.graph import output_format
from personarank_dagster.serving.reranker import Reranker
from personarank_dagster.storage.manifests import Provenance
from personarank_dagster.storage.versions import VersionStore
from personarank_dagster.vectors.embeddings import CacheTable, MadeWith

ITEMS, USERS, CALLS = 1_000_000, 10_000, 3_000
ALPHA, GAMMA = 0.5, 0.65
MADE_WITH = MadeWith(
    encoder="e", model="m", dimension=1024, max_len=1, template_version="1", mode="m", fields="", truncated_share=0
)


def main() -> None:
    """One user through `Reranker`, on one core, a million items of 1,024 dimensions in the index."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
        _publish_caches(Path(folder), rng)
        reranker = Reranker.open(folder)
        # Strings as an application has them: those of numpy take a third longer to look up.
        items = names(ITEMS).tolist()
        lists = [[(items[i], float(-n)) for n, i in enumerate(rng.integers(0, ITEMS, 20))] for _ in range(CALLS)]
        users = names(USERS)[rng.integers(0, USERS, CALLS)].tolist()
        for round_name in ("rows not in memory", "rows in memory"):
            seconds = []
            for user, candidates in zip(users, lists, strict=True):
                started = time.perf_counter()
                reranker.rerank(user, candidates, 10)
                seconds.append(time.perf_counter() - started)
            p50, p99 = np.quantile(seconds[100:], [0.5, 0.99]) * 1e6
            print(f"one user, {ITEMS:,} items x {PERSONAS} x 1,024, {round_name}: {p50:.0f} us, p99 {p99:.0f} us")


def _publish_caches(root: Path, rng: np.random.Generator) -> None:
    """Caches whose vectors repeat, each row in its own place on disk; and what `Reranker` reads beside them."""
    base = unit_vectors(rng, 50_000, 1024)
    sizes = {"interaction_cache": USERS * INTERACTIONS, "persona_cache": ITEMS * PERSONAS}
    indexes = {
        "interaction_cache": interaction_index(USERS),
        "persona_cache": persona_index(ITEMS),
    }
    for asset, rows in sizes.items():
        repeated = np.lib.format.open_memmap(root / f"{asset}.npy", "w+", np.float16, (rows, 1024))
        for begin in range(0, rows, len(base)):
            repeated[begin : begin + len(base)] = base[: rows - begin]
        table = CacheTable(repeated, indexes[asset], MADE_WITH)
        _publish(root, asset, partial(_write, asset, table))
        (root / f"{asset}.npy").unlink()
    _publish(root, "reranked_candidates", lambda _: {"serving_alpha": ALPHA, "user_max_k": 10, "gamma": GAMMA})
    _publish(root, "trained_encoder", lambda _: {})


def _write(asset: str, table: CacheTable, folder: Path) -> dict:
    return output_format(asset, "amazon").write(table, folder)


def _publish(root: Path, asset: str, write: Callable[[Path], dict]) -> None:
    made_from = Provenance(code_version="1", inputs={})
    VersionStore(root / "versions", asset, "a").publish(write, run_id="", data_version="e", provenance=made_from)
