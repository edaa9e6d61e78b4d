"""Train the encoder: profiles against personas, on the transformers trainer."""

import shutil
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from personarank_dagster.core.config import TrainConfig
from personarank_dagster.core.profiles import FloatArray
from personarank_dagster.encoding.batches import PairCollator, PairNumbers, TrainingData
from personarank_dagster.encoding.encoder import BATCH_TEXTS, embedding_dimension, encode, with_heads, with_normalize
from personarank_dagster.encoding.loss import (
    above_positive_share,
    info_nce,
    same_user,
    siblings,
    weighted_profiles,
    without_positives,
)

OnStep = Callable[[int, int, float], None]

# File that stands in a checkpoint once all others are written.
WHOLE = "whole"


@dataclass(frozen=True)
class Training:
    """A finished training: the model and its curve; `losses[i]` is the loss of step i + 1."""

    model: SentenceTransformer
    losses: list[float]
    seconds: float


class ProfilePersonaModel(nn.Module):
    """Loss of a batch of pairs; how texts become unit vectors is up to the two verbs of the subclasses."""

    def __init__(self, data: TrainingData, config: TrainConfig) -> None:
        super().__init__()
        self.settings = config
        self.persona_items: Tensor
        self.register_buffer("persona_items", torch.from_numpy(data.persona_items), persistent=False)

    @abstractmethod
    def interactions(self, texts: Tensor) -> Tensor:
        """Unit vectors (texts, dim) of interaction texts, given by row."""

    @abstractmethod
    def personas(self, rows: Tensor) -> Tensor:
        """Unit vectors (rows, dim) of personas, given by row."""

    def catalogue(self, batch_rows: Tensor) -> Tensor:
        """Unit vectors (all personas, dim); those of the batch carry a gradient."""
        return self.personas(torch.arange(len(self.persona_items), device=batch_rows.device))

    def forward(self, texts: Tensor, text_weights: Tensor, targets: Tensor, users: Tensor) -> dict[str, Tensor]:
        """Loss of the batch that `PairCollator` made."""
        profiles = weighted_profiles(self.interactions(texts), text_weights)
        if self.settings.negatives == "batch":
            rows, positives = torch.unique(targets, return_inverse=True)
            personas = self.personas(rows)
        else:
            rows, positives = torch.arange(len(self.persona_items), device=targets.device), targets
            personas = self.catalogue(torch.unique(targets))
        return {"loss": self._loss(profiles, personas, positives, rows, users)}

    def _loss(self, profiles: Tensor, personas: Tensor, positives: Tensor, rows: Tensor, users: Tensor) -> Tensor:
        excluded = torch.zeros(len(profiles), len(personas), dtype=torch.bool, device=profiles.device)
        if self.settings.mask_same_item:
            excluded |= siblings(self.persona_items[rows], positives)
        if self.settings.mask_same_user:
            excluded |= same_user(users, positives, len(personas))
        if self.settings.mask_percpos:
            excluded |= above_positive_share(profiles, personas, positives, self.settings.percpos_threshold)
        return info_nce(
            profiles,
            personas,
            positives,
            excluded=without_positives(excluded, positives),
            temperature=self.settings.temperature,
            label_smoothing=self.settings.label_smoothing,
        )


class HeadModel(ProfilePersonaModel):
    """`tune: head`: one linear map per side, identity at the start, on vectors of the frozen encoder."""

    def __init__(
        self,
        data: TrainingData,
        config: TrainConfig,
        interaction_vectors: FloatArray,
        persona_vectors: FloatArray,
    ) -> None:
        super().__init__(data, config)
        dimension = persona_vectors.shape[1]
        self.query, self.document = (nn.Linear(dimension, dimension, bias=False) for _ in range(2))
        nn.init.eye_(self.query.weight)
        nn.init.eye_(self.document.weight)
        self.interaction_vectors: Tensor
        self.persona_vectors: Tensor
        self.register_buffer("interaction_vectors", torch.from_numpy(interaction_vectors), persistent=False)
        self.register_buffer("persona_vectors", torch.from_numpy(persona_vectors), persistent=False)

    def interactions(self, texts: Tensor) -> Tensor:
        return normalize(self.query(self.interaction_vectors[texts]), dim=1)

    def personas(self, rows: Tensor) -> Tensor:
        return normalize(self.document(self.persona_vectors[rows]), dim=1)


class FullModel(ProfilePersonaModel):
    """`tune: full`: every weight of the encoder is trained.

    With `negatives: catalogue` the personas outside the batch come from vectors without gradient, encoded anew at
    the start of each epoch.
    """

    def __init__(
        self,
        data: TrainingData,
        config: TrainConfig,
        encoder: SentenceTransformer,
        interaction_texts: Sequence[str],
        persona_texts: Sequence[str],
    ) -> None:
        super().__init__(data, config)
        self.encoder = encoder
        self.interaction_texts, self.persona_texts = interaction_texts, persona_texts
        self.kept_personas: Tensor
        if config.negatives == "catalogue":
            # Part of a checkpoint: a training that continues within an epoch must see the same negatives.
            self.register_buffer("kept_personas", torch.zeros(len(persona_texts), embedding_dimension(encoder)))
            self.refresh()

    def interactions(self, texts: Tensor) -> Tensor:
        return self._encode([self.interaction_texts[row] for row in texts.tolist()])

    def personas(self, rows: Tensor) -> Tensor:
        return self._encode([self.persona_texts[row] for row in rows.tolist()])

    def catalogue(self, batch_rows: Tensor) -> Tensor:
        return self.kept_personas.index_copy(0, batch_rows, self.personas(batch_rows))

    def refresh(self) -> None:
        """Encode all personas with the present weights."""
        was_training = self.training
        self.eval()
        vectors = encode(self.encoder, self.persona_texts)
        self.kept_personas = torch.from_numpy(vectors).to(self.persona_items.device)
        self.train(was_training)

    def _encode(self, texts: list[str]) -> Tensor:
        """Encode in batches by length, so that a long text does not pad all the others."""
        by_length = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        parts = []
        for begin in range(0, len(texts), BATCH_TEXTS):
            features = self.encoder.preprocess([texts[i] for i in by_length[begin : begin + BATCH_TEXTS]])
            on_device = {
                key: value.to(self.persona_items.device) for key, value in features.items() if torch.is_tensor(value)
            }
            parts.append(self.encoder(features | on_device)["sentence_embedding"])
        return normalize(torch.cat(parts)[np.argsort(by_length)].float(), dim=1)


def train_head(
    model: SentenceTransformer,
    data: TrainingData,
    config: TrainConfig,
    *,
    interaction_vectors: FloatArray,
    persona_vectors: FloatArray,
    device: str,
    on_step: OnStep,
    checkpoints: Path | None = None,
) -> Training:
    """Learn the two linear maps on vectors of the frozen model; the result is the model followed by them."""
    heads = HeadModel(data, config, interaction_vectors, persona_vectors)
    losses, seconds = _fit(heads, data, config, device=device, on_step=on_step, checkpoints=checkpoints)
    query, document = (layer.weight.detach().cpu().numpy() for layer in (heads.query, heads.document))
    return Training(with_heads(model, query, document), losses, seconds)


def train_full(
    model: SentenceTransformer,
    data: TrainingData,
    config: TrainConfig,
    *,
    interaction_texts: Sequence[str],
    persona_texts: Sequence[str],
    device: str,
    on_step: OnStep,
    checkpoints: Path | None = None,
) -> Training:
    """Train every weight of the model."""
    full = FullModel(data, config, with_normalize(model), interaction_texts, persona_texts)
    losses, seconds = _fit(full, data, config, device=device, on_step=on_step, checkpoints=checkpoints)
    return Training(full.encoder.eval(), losses, seconds)


def num_steps(num_pairs: int, config: TrainConfig) -> int:
    """Optimiser steps: `epochs` over the pairs, but at most `max_steps` where that is not 0."""
    all_steps = _steps_per_epoch(num_pairs, config) * config.epochs
    return min(all_steps, config.max_steps or all_steps)


def _steps_per_epoch(num_pairs: int, config: TrainConfig) -> int:
    return -(-num_pairs // (config.batch_size * config.grad_accum_steps))


def _fit(
    model: ProfilePersonaModel,
    data: TrainingData,
    config: TrainConfig,
    *,
    device: str,
    on_step: OnStep,
    checkpoints: Path | None,
) -> tuple[list[float], float]:
    """Train, from the last whole checkpoint in the folder if there is one; the result is the same as without."""
    set_seed(config.seed)
    num_pairs = len(data.targets)
    watch = _Watch(on_step, _steps_per_epoch(num_pairs, config), config.checkpoint_seconds)
    started = time.perf_counter()
    with TemporaryDirectory() as temporary:
        folder = checkpoints or Path(temporary)
        trainer = Trainer(
            model=model,
            args=_arguments(folder, num_pairs, config, device),
            train_dataset=PairNumbers(num_pairs),
            data_collator=PairCollator(data, config.gamma),
            callbacks=[watch],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train(resume_from_checkpoint=_last_checkpoint(folder))
    losses = [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
    return losses, time.perf_counter() - started


def _last_checkpoint(folder: Path) -> str | None:
    """The newest whole checkpoint; one that was being written when the process was killed is removed."""
    whole = []
    for path in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        if (path / WHOLE).exists():
            whole.append(path)
        else:
            shutil.rmtree(path)
    return str(max(whole, key=lambda path: int(path.name.rpartition("-")[2]))) if whole else None


def _arguments(folder: Path, num_pairs: int, config: TrainConfig, device: str) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=num_steps(num_pairs, config),
        per_device_train_batch_size=config.batch_size,
        gradient_accumulation_steps=config.grad_accum_steps,
        learning_rate=config.lr,
        lr_scheduler_type=config.scheduler if not config.warmup_steps else _WITH_WARMUP[config.scheduler],
        warmup_steps=config.warmup_steps,
        seed=config.seed,
        bf16=config.amp and device == "cuda" and torch.cuda.is_bf16_supported(),
        use_cpu=device == "cpu",
        remove_unused_columns=False,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",
        # The one before is whole while the next is written.
        save_total_limit=2,
        report_to="none",
        disable_tqdm=True,
    )


_WITH_WARMUP = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}


class _Watch(TrainerCallback):
    """Reports every step, saves checkpoints, and lets the model refresh what it keeps at each epoch."""

    def __init__(self, on_step: OnStep, steps_per_epoch: int, checkpoint_seconds: int) -> None:
        self.on_step, self.steps_per_epoch = on_step, steps_per_epoch
        self.checkpoint_seconds = checkpoint_seconds
        self.saved_at = time.monotonic()

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        model = kwargs["model"]
        # A training that continues within an epoch has what was kept at its start in the checkpoint.
        begins = state.global_step % self.steps_per_epoch == 0
        if begins and isinstance(model, FullModel) and model.settings.negatives == "catalogue":
            model.refresh()

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if (loss := kwargs["logs"].get("loss")) is not None:
            self.on_step(state.global_step, state.max_steps, float(loss))

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        control.should_save = time.monotonic() - self.saved_at >= self.checkpoint_seconds

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        (Path(str(args.output_dir)) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}" / WHOLE).touch()
        self.saved_at = time.monotonic()
