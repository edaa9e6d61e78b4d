"""Persona scores by torch on a GPU against the compiled loop on all cores, transfers included."""

import statistics
import time

import numpy as np
import torch

from benchmarks.generated_lists import (
    CANDIDATES,
    INTERACTIONS,
    ITEMS,
    PERSONAS,
    candidate_lists,
    interaction_index,
    persona_index,
)
from benchmarks.reranking import GAMMA
from personarank_dagster.core.profiles import unit_rows
from personarank_dagster.encoding.persona_scores import score_on_device
from personarank_dagster.ranking.ranker import Ranker, VectorTable, score_on_cores

USERS, REASONS, ROUNDS = 100_000, 3, 3


def ranking_rows(device: str, users: int = USERS) -> None:
    """Both on the same lists in turns, for two dimensions, without reasons and with."""
    rng = np.random.default_rng(0)
    for dimension in (384, 1_024):
        ranker, lists = _problem(users, dimension, rng)
        for reasons in (0, REASONS):
            cores, gpu = _compare(ranker, lists, device, reasons)
            print(
                f"{users:,} users x {CANDIDATES} x {PERSONAS}, {dimension} dimensions, "
                f"{reasons} reasons: compiled loop {cores:.2f} s, GPU {gpu[0]:.2f} s the first time, which sends the "
                f"vectors, then {gpu[1]:.2f} s: {cores / gpu[0]:.1f} and {cores / gpu[1]:.1f} times",
                flush=True,
            )


def _problem(users: int, dimension: int, rng: np.random.Generator) -> tuple[Ranker, object]:
    rows = (users * INTERACTIONS, ITEMS * PERSONAS)
    own, personas = (unit_rows(torch.randn(number, dimension).numpy()).astype(np.float16) for number in rows)
    interactions = VectorTable(own, interaction_index(users))
    table = VectorTable(personas, persona_index(ITEMS))
    ranker = Ranker.of(interactions, table, k=INTERACTIONS, gamma=GAMMA)
    return ranker, ranker.lists(candidate_lists(users, rng)[2])


def _compare(ranker: Ranker, lists: object, device: str, reasons: int) -> tuple[float, tuple[float, float]]:
    seconds: dict[str, list[float]] = {"cores": [], "gpu": []}
    ways = {"cores": score_on_cores, "gpu": score_on_device(device)}
    score_on_cores(ranker, lists, reasons)
    for _ in range(1 + ROUNDS):
        for name, way in ways.items():
            started = time.perf_counter()
            way(ranker, lists, reasons)
            seconds[name].append(time.perf_counter() - started)
    later = statistics.median(seconds["gpu"][1:])
    return statistics.median(seconds["cores"]), (seconds["gpu"][0], later)
