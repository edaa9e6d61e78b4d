"""What an encoder is, said without torch."""

from typing import Literal

import msgspec

Side = Literal["query", "document"]


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
