"""What a device computes in. Which device there is, and how much of it, is the decision of whoever calls."""

from typing import Literal

import torch

from personarank_dagster.configuration.settings import TrainConfig

TrainingPrecision = Literal["bf16", "fp16", "fp32"]


def computes_in_bf16(device: str) -> bool:
    """Whether the hardware multiplies bf16, and not merely stores it."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    has_bf16: bool = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return device == "cpu" and has_bf16


def training_precision(config: TrainConfig, device: str) -> TrainingPrecision:
    """With `amp` bf16 where the device computes in it, else fp16 with scaled gradients on a GPU; else fp32.

    Heads are always trained in fp32: all that they compute becomes a cosine, and few bits would save no time.
    """
    if not config.amp or config.tune == "head":
        return "fp32"
    if computes_in_bf16(device):
        return "bf16"
    return "fp16" if device == "cuda" else "fp32"
