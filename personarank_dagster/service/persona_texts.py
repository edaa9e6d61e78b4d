"""Texts of personas by their id, for explanations."""

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import xxhash
from msgspec import Raw

from personarank_dagster.core.errors import StorageError, reason_of
from personarank_dagster.service.messages import Persona, encode
from personarank_dagster.serving.published import Published
from personarank_dagster.serving.strings import Strings
from personarank_dagster.storage.tables import TABLE

PERSONAS = "personas"
TEXTS = ("name", "description", "preference_rationale")


class PersonaTexts:
    """The published personas of one version as JSON, found by the hash of their id."""

    def __init__(self, table: pl.DataFrame) -> None:
        hashes = _hashes(table["unique_persona_id"].to_list())
        order = np.argsort(hashes, kind="stable")
        self._hashes, ordered = hashes[order], table[order]
        self._ids = Strings(ordered["unique_persona_id"].cast(pl.String))
        written = [encode(Persona(*row)) for row in ordered.select("unique_persona_id", *TEXTS).iter_rows()]
        self._json = b"".join(written)
        # A view gives Python's own numbers.
        self._bounds = np.fromiter(accumulate(map(len, written), initial=0), np.int64, len(written) + 1).data

    @classmethod
    def open(cls, published: Published) -> "PersonaTexts":
        """Read the current version. Raises StorageError."""
        return cls(read_personas(published.store(PERSONAS).current().directory / TABLE))

    def of(self, ids: Sequence[str]) -> list[Raw]:
        """The `Persona` of each id, written; one that is not there any more has nothing but its id."""
        rows = np.searchsorted(self._hashes, _hashes(ids)).tolist()
        return [self._persona(one, row) for one, row in zip(ids, rows, strict=True)]

    def _persona(self, wanted: str, row: int) -> Raw:
        if row == len(self._hashes) or self._ids[row] != wanted:
            return Raw(encode(Persona(wanted)))
        return Raw(self._json[self._bounds[row] : self._bounds[row + 1]])


def _hashes(ids: Sequence[str]) -> npt.NDArray[np.uint64]:
    # polars takes a hundred times as long to hash a handful.
    return np.array([xxhash.xxh3_64_intdigest(one.encode()) for one in ids], np.uint64)


def read_personas(path: Path) -> pl.DataFrame:
    """Ids and texts of a published table of personas. Raises StorageError if it cannot be read."""
    try:
        return pl.read_parquet(path, columns=["unique_persona_id", *TEXTS])
    except (OSError, pl.exceptions.PolarsError) as error:
        raise StorageError(f"{path}: cannot be read: {reason_of(error)}; materialise the personas again") from error
