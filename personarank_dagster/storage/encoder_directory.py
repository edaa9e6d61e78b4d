"""An encoder on disk: a sentence-transformers directory with `encoder.json` beside it. Reading needs no torch."""

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file

from personarank_dagster.core.encoders import PROBES_JSON, EncoderInfo, Probes, Side
from personarank_dagster.core.errors import EncoderError, reason_of

ENCODER_JSON = "encoder.json"


@dataclass(frozen=True)
class EncoderDirectory:
    """A published encoder: where it is and what it is."""

    path: Path
    info: EncoderInfo

    def head(self, side: Side) -> npt.NDArray[np.float32] | None:
        """Weight (dimension, dimension) of the linear map of one side, None for an encoder without heads."""
        if self.info.tune != "head":
            return None
        files = list(self.path.glob(f"*_Router/{side}_0_Dense/model.safetensors"))
        try:
            return load_file(files[0])["linear.weight"]
        except (IndexError, KeyError, OSError, SafetensorError) as error:
            raise EncoderError(
                f"{self.path}: the {side} head cannot be read: {reason_of(error)}; train it again"
            ) from error


def open_encoder(directory: Path) -> EncoderDirectory:
    """Read `encoder.json`. Raises EncoderError if it is missing or damaged."""
    try:
        info = msgspec.json.decode((directory / ENCODER_JSON).read_bytes(), type=EncoderInfo)
    except (OSError, msgspec.MsgspecError) as error:
        raise EncoderError(
            f"{directory / ENCODER_JSON}: cannot be read: {reason_of(error)}; train the encoder again"
        ) from error
    return EncoderDirectory(directory, info)


def read_probes(directory: Path) -> Probes:
    """Read `probes.json`. Raises EncoderError if it is missing or damaged."""
    try:
        return msgspec.json.decode((directory / PROBES_JSON).read_bytes(), type=Probes)
    except (OSError, msgspec.MsgspecError) as error:
        raise EncoderError(
            f"{directory / PROBES_JSON}: cannot be read: {reason_of(error)}; train the encoder again"
        ) from error


def write_info(directory: Path, info: EncoderInfo) -> None:
    """Write `encoder.json`."""
    (directory / ENCODER_JSON).write_bytes(msgspec.json.format(msgspec.json.encode(info)) + b"\n")
