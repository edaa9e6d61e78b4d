"""Training: a plain step (every text of every pair encoded, one graph, fp32) against ours, `tune: full`, MiniLM.

The same batches of 8 pairs, real ones where they are at hand, in turns within one process on one core: those with the
longest profiles of different users, whose texts do not repeat, and as `user_batches` gives them. Memory is the growth
of a process that takes one step.
"""

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import torch
from torch.nn.functional import cross_entropy, normalize

from benchmarks.inputs import read_inputs
from personarank_dagster.core.profiles import window_weights
from personarank_dagster.encoding.encoder import load_model
from personarank_dagster.encoding.train import training_tables
from personarank_dagster.encoding.training.batches import PairBatches, PairCollator, training_data
from personarank_dagster.encoding.training.models import EncoderModel
from personarank_dagster.encoding.training.neighbours import Neighbourhood

PAIRS, ROUNDS, LARGE_BATCH = 8, 2, 1024

Step = Callable[[], float]


class Trial:
    """One model, one batch, and both ways to take a step with it."""

    def __init__(self, *, by_user: bool, dropout: bool, pairs: int = PAIRS) -> None:
        inputs = read_inputs("amazon")
        self.config = inputs.config
        tables = training_tables(inputs.config, inputs.personas, inputs.histories, inputs.selections)
        self.interactions = self.config.template.interaction_texts(tables.liked).to_list()
        self.personas = self.config.template.persona_texts(tables.personas).to_list()
        none = np.full((len(tables.pairs.frame), 1), -1)
        near = Neighbourhood(none, np.zeros((len(none), 2), np.float32))
        rows = np.arange(len(self.interactions))
        self.data = training_data(tables.pairs, rows, tables.personas, near)
        settings = {"tune": "full", "negatives": "batch", "mask_same_item": False, "dropout": dropout}
        self.settings = msgspec.structs.replace(self.config.train, **settings)
        encoder = load_model(self.settings.st_path, max_len=self.settings.max_len, device="cpu")
        self.model = EncoderModel(self.data, self.settings, encoder, self.interactions, self.personas).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-6)
        self.batch = self._batch(by_user, pairs)
        self.has_bf16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()

    def ours(self) -> float:
        """Every text once, in chunks whose activations are made again, bf16 where the processor has it."""
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.has_bf16):
            loss = self.model(**PairCollator(self.data, self.settings.gamma)(self.batch))["loss"]
        return self._update(loss)

    def plain(self) -> float:
        """Every text of every pair, padded to the longest, in one graph."""
        windows = self.data.windows[self.batch]
        rows, pair_of_row = windows.flatten()
        weights = np.zeros((len(self.batch), len(rows)), dtype=np.float32)
        weights[pair_of_row, np.arange(len(rows))] = window_weights(windows, self.settings.gamma)
        vectors = self._encode([self.interactions[row] for row in rows])
        profiles = normalize(torch.from_numpy(weights) @ vectors, dim=1)
        personas = self._encode([self.personas[row] for row in self.data.targets[self.batch]])
        scores = profiles @ personas.T / self.settings.temperature
        return self._update(cross_entropy(scores, torch.arange(len(self.batch))))

    def _encode(self, texts: list[str]) -> torch.Tensor:
        encoder = self.model.encoder
        return normalize(encoder(encoder.preprocess(texts))["sentence_embedding"], dim=1)

    def _update(self, loss: torch.Tensor) -> float:
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def _batch(self, by_user: bool, pairs: int) -> list[int]:
        """Pairs with different personas; without `by_user` of different users, so that no text repeats."""
        order = [pair for batch in PairBatches(self.data.users, 64, seed=13, by_user=by_user) for pair in batch]
        if not by_user:
            windows = self.data.windows[order]
            order = [order[i] for i in np.argsort(windows.starts - windows.ends, kind="stable")]
        chosen: list[int] = []
        for pair in order:
            same = (self.data.targets[chosen] == self.data.targets[pair]).any()
            same |= not by_user and (self.data.users[chosen] == self.data.users[pair]).any()
            if len(chosen) < pairs and (pairs > PAIRS or not same):
                chosen.append(pair)
        return chosen


def main() -> None:
    """Each batch with dropout as the model has it, and without on both sides."""
    for by_user in (False, True):
        for dropout in (True, False):
            _child("compare", str(by_user), str(dropout))
        grown = {way: int(_child("memory", str(by_user), way)) for way in ("plain", "ours")}
        share = grown["ours"] / grown["plain"]
        print(f"   memory of a step: plain {grown['plain']} MB, ours {grown['ours']} MB, {share:.0%}")


def large() -> None:
    """A batch of 1,024 pairs of real data, one step."""
    trial = Trial(by_user=True, dropout=False, pairs=LARGE_BATCH)
    started = time.perf_counter()
    trial.ours()
    seconds, peak = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    texts = trial.model.texts_encoded
    print(f"{len(trial.batch)} pairs, {texts} texts: {seconds:.0f} s, peak {peak / 1e6:.2f} GB in all")


def compare(by_user: bool, dropout: bool) -> None:
    trial = Trial(by_user=by_user, dropout=dropout)
    ways: dict[str, Step] = {"plain": trial.plain, "ours": trial.ours}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    losses: dict[str, float] = {}
    # The first round warms up.
    for _ in range(1 + ROUNDS):
        for way, step in ways.items():
            started = time.perf_counter()
            losses.setdefault(way, step())
            seconds[way].append(time.perf_counter() - started)
    plain, ours = (statistics.median(seconds[way][1:]) for way in ways)
    texts = len(trial.data.windows[trial.batch].flatten()[0]) + PAIRS
    encoded = trial.model.texts_encoded // (1 + ROUNDS)
    print(
        f"{'by user' if by_user else 'no text repeats'}, {'dropout' if dropout else 'no dropout'}: {PAIRS} pairs, "
        f"{texts} texts, {encoded} different: plain {PAIRS / plain:.2f} pairs/s, ours {PAIRS / ours:.2f}: "
        f"{plain / ours:.1f} times; loss {losses['plain']:.4f}, {losses['ours']:.4f}",
        flush=True,
    )


def memory(by_user: bool, way: str) -> None:
    trial = Trial(by_user=by_user, dropout=True)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    getattr(trial, way)()
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1000)


def _child(what: str, *arguments: str) -> str:
    """A process of its own on one core; what it prints, which `memory` returns and others show."""
    cores = sorted(os.sched_getaffinity(0))[:1]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, "-m", "benchmarks.training", what, *arguments]
    pinned: dict[str, Any] = {"check": True, "env": environment, "preexec_fn": lambda: os.sched_setaffinity(0, cores)}
    if what != "memory":
        subprocess.run(command, **pinned)
        return ""
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, **pinned).stdout


if __name__ == "__main__":
    _, what, by_user, other = sys.argv
    if what == "compare":
        compare(by_user == "True", other == "True")
    else:
        memory(by_user == "True", other)
