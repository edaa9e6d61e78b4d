"""What pairs and blends give on the real reviews: NDCG@10 of three seeds, controls, and the persona that is named.

Heads on the frozen encoder, whose vectors are computed once. Every list is ranked by weights that other users chose.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec
import numpy as np
import polars as pl
import torch

from benchmarks.inputs import Inputs, read_inputs
from personarank_dagster.core.profiles import FloatArray, IntArray, unit_rows
from personarank_dagster.encoding.train import encode_distinct, train_encoder, training_tables
from personarank_dagster.encoding.training.trainer import TrainingRun
from personarank_dagster.ranking.blending import measure, ndcg
from personarank_dagster.ranking.controls import content_places, shuffled_places
from personarank_dagster.ranking.cross_fitting import learn
from personarank_dagster.ranking.metrics import lifts
from personarank_dagster.ranking.ranker import Ranker, VectorTable
from personarank_dagster.ranking.signals import WITHOUT_PERSONAS, item_counts
from personarank_dagster.raw import ingestion

SEEDS, K = (13, 14, 15), 10
HEAD = "| pairs | blend | NDCG@10, lift | shuffled, personal lift | without personas | content | persona named |"
PAIRS = {
    "selections": {},
    "histories": {"pairs": "histories", "loss": "listwise"},
    "both": {"pairs": "both", "loss": "listwise"},
}


class Trial:
    """One dataset: its tables, and vectors of its texts before any head."""

    def __init__(self, dataset: str) -> None:
        self.inputs: Inputs = read_inputs(dataset)
        config = self.inputs.config
        self.truth = ingestion.read_ground_truth(config.raw_path("gt")).table
        self.candidates = ingestion.read_candidates(config.raw_path("candidates")).table
        self.counts = item_counts(self.inputs.histories)
        self.ways: dict[str, Callable[..., Any]] = {
            "fixed 0.5": partial(measure, alpha=0.5, k=K),
            "auto": partial(measure, alpha="auto", k=K),
            "learned": partial(learn, counts=self.counts, k=K),
        }
        self._vectors: dict[str, tuple[FloatArray, IntArray]] = {}

    def ranker(self, seed: int, pairs: str) -> tuple[Ranker, dict[str, float]]:
        """A ranker over vectors by heads that were trained so, and the metrics of held-out users."""
        inputs = self.inputs
        train = msgspec.structs.replace(inputs.config.train, seed=seed, **PAIRS[pairs])
        config = replace(inputs.config, train=train)
        tables = training_tables(config, inputs.personas, inputs.histories, inputs.selections)
        run = TrainingRun("cpu", "fp32", lambda *numbers: None)
        trained = train_encoder(config, tables, self._embed, run)
        heads = trained.training.model[-2].sub_modules
        interactions, personas = (self._by_head(heads[side][0].linear.weight, side) for side in ("query", "document"))
        index = tables.liked.select("user_id", "item_id").with_row_index("vector_row")
        named = tables.personas.select("item_id", "unique_persona_id").with_row_index("vector_row").sort("item_id")
        ranker = Ranker.of(VectorTable(interactions, index), VectorTable(personas, named), k=10, gamma=train.gamma)
        return ranker, trained.record()["final"]

    def _embed(self, texts: pl.Series, model: Any, fingerprint: str, side: Any) -> tuple[FloatArray, IntArray]:
        if side not in self._vectors:
            self._vectors[side] = encode_distinct(texts, model, fingerprint, side)
        return self._vectors[side]

    def _by_head(self, weight: torch.Tensor, side: str) -> FloatArray:
        vectors, rows = self._vectors[side]
        return unit_rows((vectors @ weight.detach().numpy().T)[rows])


def main() -> None:
    for dataset in ("amazon", "yelp"):
        trial = Trial(dataset)
        print(
            f"\n### {dataset}\n\n| pairs | blend | NDCG@10 | shuffled | without personas | content | persona named |"
        )
        print("|---|---|---|---|---|---|---|")
        for pairs in PAIRS:
            rankers = [trial.ranker(seed, pairs) for seed in SEEDS]
            named = _told([final["accuracy@1"] for _, final in rankers])
            for way in trial.ways:
                print(
                    f"| {pairs} | {way} | {_row(trial, way, [ranker for ranker, _ in rankers])} | {named} |",
                    flush=True,
                )


def _row(trial: Trial, way: str, rankers: list[Ranker]) -> str:
    how, lists = trial.ways[way], (trial.candidates, trial.truth)
    measured = [how(ranker, *lists) for ranker in rankers]
    shuffled = [shuffled_places(ranker, *lists, how)["shuffled"].to_numpy() for ranker in rankers]
    content = [content_places(ranker, *lists, how)["content"].to_numpy() for ranker in rankers]
    without = learn(rankers[0], *lists, counts=trial.counts, k=K, signals=WITHOUT_PERSONAS).places
    personal = lifts(shuffled[0], measured[0].places, [K])[f"NDCG@{K}"]
    before = measure(rankers[0], *lists, alpha=0.0, k=K).places
    gain = lifts(before, measured[0].places, [K])[f"NDCG@{K}"]
    cells = (
        f"{_told([_mean(one.places) for one in measured])}, {_interval(gain)}",
        f"{_told([_mean(one) for one in shuffled])}, {_interval(personal)}",
        f"{_mean(without):.4f}",
        _told([_mean(one) for one in content]),
    )
    return " | ".join(cells)


def _mean(places: IntArray) -> float:
    return float(ndcg(places, K).mean())


def _told(values: list[float]) -> str:
    return f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}"


def _interval(lift: Any) -> str:
    return f"{lift.lift:+.1%} [{lift.low:+.1%}, {lift.high:+.1%}]"
