"""`make bench`, or `python -m benchmarks SECTION…`: run the sections and print machine, date and ratios."""

import platform
import sys
from collections.abc import Callable
from datetime import UTC, datetime

import torch

from benchmarks import (
    blends,
    caches,
    cluster,
    gpu,
    ingestion,
    one_user,
    preparation,
    reranking,
    service,
    start_up,
    storage,
    training,
    tuning,
)

SECTIONS: dict[str, Callable[[], None]] = {
    "blends": blends.main,
    "caches": caches.main,
    "refresh": caches.refresh,
    "large_caches": caches.large,
    "gpu": gpu.main,
    "ingestion": ingestion.main,
    "large_ingestion": ingestion.large,
    "preparation": preparation.main,
    "ray": cluster.main,
    "ray_keys": cluster.keys,
    "rerank": reranking.main,
    "rerank_blends": reranking.blends,
    "rerank_million_users": reranking.million,
    "rerank_one_user": one_user.main,
    "service": service.main,
    "start_up": start_up.main,
    "storage": storage.main,
    "training": training.main,
    "training_large_batch": training.large,
    "tuning": tuning.main,
}


def main(names: list[str]) -> None:
    if unknown := [name for name in names if name not in SECTIONS]:
        sys.exit(f"unknown section {', '.join(unknown)}; the sections are {', '.join(SECTIONS)}")
    machine = platform.processor() or platform.machine()
    print(f"{datetime.now(UTC):%Y-%m-%d} · {machine} · {torch.get_num_threads()} threads")
    for name in names or SECTIONS:
        print(f"\n## {name}")
        SECTIONS[name]()


main(sys.argv[1:])
