"""From the tables of a dataset to its trained encoder."""

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
from sentence_transformers import SentenceTransformer

from personarank_dagster.core.config import DatasetConfig, TrainConfig
from personarank_dagster.core.encoders import EncoderInfo
from personarank_dagster.core.errors import ContractError
from personarank_dagster.core.histories import TrainingPairs
from personarank_dagster.core.profiles import FloatArray, IntArray
from personarank_dagster.encoding.batches import training_data
from personarank_dagster.encoding.encoder import (
    embedding_dimension,
    load_model,
    model_fingerprint,
    save_model,
)
from personarank_dagster.encoding.training import OnStep, Training, train_full, train_head

TRAINING_JSON = "training.json"

# (texts, model, its fingerprint, what for) -> vectors of the distinct texts, and the row of each text.
Embed = Callable[[pl.Series, SentenceTransformer, str, str], tuple[FloatArray, IntArray]]


@dataclass(frozen=True)
class TrainingTables:
    """What a training reads: liked interactions, personas, and the pairs of profile windows and personas."""

    liked: pl.DataFrame
    personas: pl.DataFrame
    pairs: TrainingPairs


@dataclass(frozen=True)
class TrainedEncoder:
    """A trained encoder, ready to be written."""

    info: EncoderInfo
    training: Training
    config: TrainConfig

    def check(self) -> None:
        """Raise ContractError unless the loss of every step and every weight is a finite number."""
        if wrong := [step for step, loss in enumerate(self.training.losses, 1) if not isfinite(loss)]:
            raise ContractError(f"trained_encoder: the loss must be finite, got none in step {wrong[0]}; lower lr")
        for name, weight in self.training.model.state_dict().items():
            if weight.is_floating_point() and not weight.isfinite().all():
                raise ContractError(f"trained_encoder: weights must be finite, got others in {name}; lower lr")

    def save(self, directory: Path) -> None:
        """Write a sentence-transformers directory and `training.json`, the record of the training."""
        save_model(self.training.model, directory)
        record = msgspec.json.encode(self.record())
        (directory / TRAINING_JSON).write_bytes(msgspec.json.format(record) + b"\n")

    def record(self) -> dict[str, Any]:
        """Settings, fingerprints and the loss curve. Nothing in it differs between two runs of one training."""
        return {"config": self.config, "encoder": self.info, "losses": self.training.losses}


def train_encoder(
    config: DatasetConfig,
    tables: TrainingTables,
    embed: Embed,
    *,
    device: str,
    on_step: OnStep,
    checkpoints: Path | None = None,
) -> TrainedEncoder:
    """Train the encoder that `train.yaml` asks for; with a folder for checkpoints, from the last one in it."""
    model = load_model(config.train.st_path, max_len=config.train.max_len, device=device)
    base_fingerprint = model_fingerprint(model)
    if config.train.tune == "head":
        training = _train_head(config, tables, model, embed, base_fingerprint, device, on_step, checkpoints)
        fingerprint = model_fingerprint(training.model)
    else:
        training = _train_full(config, tables, model, device, on_step, checkpoints)
        base_fingerprint = fingerprint = model_fingerprint(training.model)
    info = EncoderInfo(
        st_path=config.train.st_path,
        tune=config.train.tune,
        max_len=config.train.max_len,
        dimension=embedding_dimension(model),
        base_fingerprint=base_fingerprint,
        fingerprint=fingerprint,
    )
    return TrainedEncoder(info, training, config.train)


def _train_head(
    config: DatasetConfig,
    tables: TrainingTables,
    model: SentenceTransformer,
    embed: Embed,
    fingerprint: str,
    device: str,
    on_step: OnStep,
    checkpoints: Path | None,
) -> Training:
    texts, persona_texts = _texts(config, tables)
    vectors, text_rows = embed(texts, model, fingerprint, "encoding interactions")
    persona_vectors, persona_rows = embed(persona_texts, model, fingerprint, "encoding personas")
    return train_head(
        model,
        training_data(tables.pairs, text_rows, tables.personas),
        config.train,
        interaction_vectors=vectors,
        persona_vectors=persona_vectors[persona_rows],
        device=device,
        on_step=on_step,
        checkpoints=checkpoints,
    )


def _train_full(
    config: DatasetConfig,
    tables: TrainingTables,
    model: SentenceTransformer,
    device: str,
    on_step: OnStep,
    checkpoints: Path | None,
) -> Training:
    texts, persona_texts = _texts(config, tables)
    distinct = texts.unique(maintain_order=True)
    text_rows = texts.replace_strict(distinct, pl.int_range(len(distinct), eager=True)).to_numpy()
    return train_full(
        model,
        training_data(tables.pairs, text_rows, tables.personas),
        config.train,
        interaction_texts=distinct.to_list(),
        persona_texts=persona_texts.to_list(),
        device=device,
        on_step=on_step,
        checkpoints=checkpoints,
    )


def _texts(config: DatasetConfig, tables: TrainingTables) -> tuple[pl.Series, pl.Series]:
    return config.template.interaction_texts(tables.liked), config.template.persona_texts(tables.personas)
