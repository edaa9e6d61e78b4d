"""A trained encoder, ready to be written: the model and the record of its training."""

import platform
from dataclasses import dataclass
from importlib.metadata import version
from math import isfinite
from pathlib import Path
from typing import Any

import msgspec

from personarank_dagster.configuration.settings import TrainConfig
from personarank_dagster.core.encoders import PROBES_JSON, TRAINING_JSON, EncoderInfo
from personarank_dagster.core.errors import ContractError
from personarank_dagster.encoding.devices import TrainingPrecision
from personarank_dagster.encoding.encoder import save_model
from personarank_dagster.encoding.probes import probe
from personarank_dagster.encoding.training.trainer import Training

PACKAGES = ("torch", "transformers", "sentence-transformers", "accelerate", "peft", "numpy")


@dataclass(frozen=True)
class TrainedEncoder:
    """A trained encoder, ready to be written."""

    info: EncoderInfo
    training: Training
    config: TrainConfig
    device: str
    precision: TrainingPrecision

    def check(self) -> None:
        """Raise ContractError unless the loss of every step and every weight is a finite number."""
        losses = [*self.training.losses, *self.training.refit_losses]
        if wrong := [step for step, loss in enumerate(losses, 1) if not isfinite(loss)]:
            raise ContractError(f"trained_encoder: the loss must be finite, got none in step {wrong[0]}; lower lr")
        for name, weight in self.training.model.state_dict().items():
            if weight.is_floating_point() and not weight.isfinite().all():
                raise ContractError(f"trained_encoder: weights must be finite, got others in {name}; lower lr")

    def save(self, directory: Path) -> None:
        """Write a sentence-transformers directory with `training.json`, the record of the training, and probes."""
        probes = msgspec.json.encode(probe(self.training.model))
        save_model(self.training.model, directory)
        record = msgspec.json.encode(self.record())
        (directory / TRAINING_JSON).write_bytes(msgspec.json.format(record) + b"\n")
        (directory / PROBES_JSON).write_bytes(probes + b"\n")

    def record(self) -> dict[str, Any]:
        """Settings, fingerprints, software and curves. Nothing in it differs between two runs of one training."""
        evaluations = self.training.evaluations
        return {
            "config": self.config,
            "encoder": self.info,
            "seed": self.config.seed,
            "device": self.device,
            "precision": self.precision,
            "packages": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
            "losses": self.training.losses,
            "refit_losses": self.training.refit_losses,
            "evaluations": evaluations,
            "base": evaluations[0] if evaluations else {},
            "final": next((entry for entry in evaluations if entry["step"] == self.training.best_step), {}),
            "best_step": self.training.best_step,
        }

    def cost(self) -> dict[str, float]:
        """Seconds, texts encoded, their rate, and peak memory: what differs between two runs of one training."""
        cost = self.training.cost
        return {
            "training_seconds": cost.seconds,
            "texts_encoded": cost.texts,
            "texts_per_second": cost.texts / cost.seconds,
            "peak_memory_bytes": cost.peak_memory_bytes,
        }
