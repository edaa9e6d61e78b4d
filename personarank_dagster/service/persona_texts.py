"""Texts of personas by their id, for explanations."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import xxhash

from personarank_dagster.core.errors import StorageError, reason_of
from personarank_dagster.service.messages import Persona
from personarank_dagster.serving.published import Published
from personarank_dagster.serving.strings import Strings
from personarank_dagster.storage.tables import TABLE

PERSONAS = "personas"
TEXTS = ("name", "description", "preference_rationale")


class PersonaTexts:
    """The published personas of one version, found by the hash of their id."""

    def __init__(self, table: pl.DataFrame) -> None:
        hashes = _hashes(table["unique_persona_id"].to_list())
        order = np.argsort(hashes, kind="stable")
        self._hashes, ordered = hashes[order], table[order]
        self._columns = [Strings(ordered[name].fill_null("")) for name in ("unique_persona_id", *TEXTS)]

    @classmethod
    def open(cls, published: Published) -> "PersonaTexts":
        """Read the current version. Raises StorageError."""
        return cls(read_personas(published.store(PERSONAS).current().directory / TABLE))

    def of(self, ids: Sequence[str]) -> list[Persona]:
        """The persona of each id; one that is not there any more has nothing but its id."""
        rows = np.searchsorted(self._hashes, _hashes(ids)).tolist()
        return [self._persona(one, row) for one, row in zip(ids, rows, strict=True)]

    def _persona(self, wanted: str, row: int) -> Persona:
        ids, names, descriptions, rationales = self._columns
        if row == len(self._hashes) or ids[row] != wanted:
            return Persona(wanted)
        return Persona(wanted, names[row], descriptions[row], rationales[row])


def _hashes(ids: Sequence[str]) -> npt.NDArray[np.uint64]:
    # polars takes a hundred times as long to hash a handful.
    return np.array([xxhash.xxh3_64_intdigest(one.encode()) for one in ids], np.uint64)


def read_personas(path: Path) -> pl.DataFrame:
    """Ids and texts of a published table of personas. Raises StorageError if it cannot be read."""
    try:
        return pl.read_parquet(path, columns=["unique_persona_id", *TEXTS])
    except (OSError, pl.exceptions.PolarsError) as error:
        raise StorageError(f"{path}: cannot be read: {reason_of(error)}; materialise the personas again") from error
