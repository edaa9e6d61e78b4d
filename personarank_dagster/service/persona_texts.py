"""Texts of personas by their id, for explanations."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from personarank_dagster.core.errors import StorageError, reason_of
from personarank_dagster.service.messages import Persona
from personarank_dagster.serving.published import Published
from personarank_dagster.storage.tables import TABLE

PERSONAS = "personas"
TEXTS = ("name", "description", "preference_rationale")
# Personas that are kept as objects; the texts of others are looked up in the table.
KEPT = 50_000


class PersonaTexts:
    """The published personas of one version, found by the hash of their id."""

    def __init__(self, table: pl.DataFrame) -> None:
        hashes = table["unique_persona_id"].hash().to_numpy()
        order = np.argsort(hashes, kind="stable")
        self._hashes, self._rows, self._table = hashes[order], order, table
        self._kept: dict[str, Persona] = {}

    @classmethod
    def open(cls, published: Published) -> "PersonaTexts":
        """Read the current version. Raises StorageError."""
        return cls(read_personas(published.store(PERSONAS).current().directory / TABLE))

    def of(self, ids: Sequence[str]) -> dict[str, Persona]:
        """The personas with these ids; one that is not there any more has nothing but its id."""
        kept = self._kept
        if missing := [one for one in dict.fromkeys(ids) if one not in kept]:
            if len(kept) + len(missing) > KEPT:
                kept.clear()
            kept.update(self._look_up(missing))
            return {one: kept.get(one) or Persona(one) for one in ids}
        return {one: kept[one] for one in ids}

    def _look_up(self, ids: list[str]) -> dict[str, Persona]:
        hashes = pl.Series(ids, dtype=pl.String).hash().to_numpy()
        places = np.searchsorted(self._hashes, hashes)
        known = places[places < len(self._rows)]
        found = [self._table.row(row) for row in self._rows[known].tolist()]
        texts = {row[0]: Persona(*row) for row in found}
        return {one: texts.get(one) or Persona(one) for one in ids}


def read_personas(path: Path) -> pl.DataFrame:
    """Ids and texts of a published table of personas. Raises StorageError if it cannot be read."""
    try:
        return pl.read_parquet(path, columns=["unique_persona_id", *TEXTS])
    except (OSError, pl.exceptions.PolarsError) as error:
        raise StorageError(f"{path}: cannot be read: {reason_of(error)}; materialise the personas again") from error
