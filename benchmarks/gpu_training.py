"""Steps of `tune: full` on a GPU: ours, the way before (padded, tokenised twice, no activation kept), a plain step.

Pairs of real reviews, a pool of 1,024 personas, bf16. The loss of sentence-transformers knows one text a side, so
that it has the newest interaction of each pair. Useful operations are three times those of a forward pass, without
padding and without what is computed again.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial

import msgspec
import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss
from torch import Tensor
from torch.nn.functional import normalize
from torch.utils.checkpoint import checkpoint

from benchmarks.inputs import KIND, read_inputs
from personarank_dagster.core.encoders import Side
from personarank_dagster.core.profiles import IntArray
from personarank_dagster.encoding.train import training_tables
from personarank_dagster.encoding.training.activations import Activations
from personarank_dagster.encoding.training.batches import PairCollator, TrainingData, training_data
from personarank_dagster.encoding.training.models import EncoderModel
from personarank_dagster.encoding.training.neighbours import Neighbourhood

POOL, ROUNDS, MINI_BATCH = 1_024, 3, 64


class PaddedModel(EncoderModel):
    """As it was: texts are tokenised and padded within what is computed twice."""

    def _computation(self, side: Side, rows: IntArray) -> Callable[[], Tensor]:
        return partial(self._tokenised, side, [self.texts[side][row] for row in rows])

    def _tokenised(self, side: Side, texts: list[str]) -> Tensor:
        features = self.encoder.preprocess(texts, prompt=self.encoder.prompts[side])
        on_device = {key: value.to(self.device) for key, value in features.items() if torch.is_tensor(value)}
        return normalize(self.encoder(features | on_device)["sentence_embedding"].float(), dim=1)

    @property
    def device(self) -> torch.device:
        return self.persona_items.device


class NoActivations(Activations):
    """Keeps none; chunks stay as large as they are at first, as they were."""

    def run(self, compute: Callable[[], Tensor], tokens: int) -> Tensor:
        return checkpoint(compute, use_reentrant=False)


class PlainActivations(NoActivations):
    """One graph of everything."""

    def run(self, compute: Callable[[], Tensor], tokens: int) -> Tensor:
        return compute()


class Trial:
    """Pairs of real reviews, and steps with them."""

    def __init__(self, encoder: SentenceTransformer, pairs: int) -> None:
        inputs = read_inputs("amazon")
        config = inputs.config
        tables = training_tables(config, inputs.personas, inputs.histories, inputs.selections)
        self.interactions = config.template.interaction_texts(tables.liked).to_list()
        self.personas = config.template.persona_texts(tables.personas).to_list()
        none = np.full((len(tables.pairs.frame), 1), -1)
        near = Neighbourhood(none, np.zeros((len(none), 2), np.float32))
        self.data: TrainingData = training_data(
            tables.pairs, np.arange(len(self.interactions)), tables.personas, near
        )
        settings = {"tune": "full", "negatives": "catalogue", "negative_pool": POOL}
        self.settings = msgspec.structs.replace(config.train, **settings)
        self.pairs = np.random.default_rng(0).permutation(len(self.data))[:pairs].tolist()
        self.encoder = encoder

    def model(self, kind: type[EncoderModel], activations: type[Activations]) -> EncoderModel:
        model = kind(self.data, self.settings, self.encoder, self.interactions, self.personas)
        model.activations = activations(self.encoder.device, self.encoder.parameters())
        return model.to(self.encoder.device).train()

    def stepper(self, model: EncoderModel) -> Callable[[], None]:
        batch = PairCollator(self.data, self.settings.gamma)(self.pairs)
        on_device = {key: value.to(self.encoder.device) for key, value in batch.items()}
        return _stepper(model, lambda: model(**on_device)["loss"])

    def cached_loss(self) -> tuple[Callable[[], None], int]:
        """A step of sentence-transformers' own cached loss, and its texts."""
        loss = CachedMultipleNegativesRankingLoss(self.encoder, mini_batch_size=MINI_BATCH)
        windows = self.data.windows[self.pairs]
        newest = self.data.text_rows[windows.ends - 1]
        sides = (
            [self.interactions[row] for row in newest],
            [self.personas[i] for i in self.data.targets[self.pairs]],
        )

        def computed() -> Tensor:
            features = [self.encoder.preprocess(texts) for texts in sides]
            on_device = [{k: v.to(self.encoder.device) for k, v in f.items() if torch.is_tensor(v)} for f in features]
            return loss(on_device, None)

        return _stepper(self.encoder, computed), sum(map(len, sides))


def training_rows(
    name: str,
    encoder: SentenceTransformer,
    *,
    pairs: int,
    peak: float,
    work: Callable[[list[str]], float],
    rivals: bool = True,
) -> None:
    """Texts a second of each way, or of ours alone; `work` gives the operations of a forward pass."""
    trial = Trial(encoder, pairs)
    ours = trial.model(EncoderModel, Activations)
    print(f"\n{name}, training, {len(trial.pairs)} pairs, {KIND} texts, pool {POOL}", flush=True)
    ways = {
        "ours": lambda: trial.stepper(ours),
        "before": lambda: trial.stepper(trial.model(PaddedModel, NoActivations)),
        "plain": lambda: trial.stepper(trial.model(PaddedModel, PlainActivations)),
    }
    texts, operations = _texts_of(trial, ours, work)
    rates = {way: _row(way, make, texts, operations, peak) for way, make in ways.items() if rivals or way == "ours"}
    if not rivals:
        return
    step, number = trial.cached_loss()
    seconds = _median(step)
    print(f"CachedMultipleNegativesRankingLoss: {number / seconds:,.0f} texts/s of {number}")
    print(f"ours {rates['ours'] / rates['before']:.1f} times the way before", flush=True)


def _texts_of(trial: Trial, model: EncoderModel, work: Callable[[list[str]], float]) -> tuple[int, float]:
    """Texts of a step, and its useful operations."""
    batch = PairCollator(trial.data, trial.settings.gamma)(trial.pairs)
    rows = torch.unique(torch.cat([batch["targets"], model.pool.cpu()])).tolist()
    texts = [trial.interactions[row] for row in batch["texts"].tolist()] + [trial.personas[row] for row in rows]
    return len(texts), 3 * work(texts)


def _row(way: str, make: Callable[[], Callable[[], None]], texts: int, operations: float, peak: float) -> float:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    try:
        seconds = _median(make())
    except torch.OutOfMemoryError:
        print(f"{way}: out of memory")
        return float("nan")
    memory = torch.cuda.max_memory_allocated() / 1e9
    print(
        f"{way}: {texts / seconds:,.0f} texts/s, {seconds:.2f} s a step, "
        f"{operations / seconds / peak:.0%} of the peak, {memory:.1f} GB",
        flush=True,
    )
    return texts / seconds


def _stepper(model: torch.nn.Module, loss: Callable[[], Tensor]) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)

    def step() -> None:
        with torch.autocast("cuda", dtype=torch.bfloat16):
            value = loss()
        value.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _median(step: Callable[[], None]) -> float:
    """Seconds of a step, after one that warms up."""
    seconds: Sequence[float] = [_seconds(step) for _ in range(1 + ROUNDS)][1:]
    return float(np.median(seconds))


def _seconds(step: Callable[[], None]) -> float:
    torch.cuda.synchronize()
    started = time.perf_counter()
    step()
    torch.cuda.synchronize()
    return time.perf_counter() - started
