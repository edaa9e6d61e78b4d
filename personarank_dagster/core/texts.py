"""The one text template: what the encoder reads, in training and in the caches alike."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from personarank_dagster.core.aspects import ASPECTS_BY_SCHEMA, Aspect, SchemaName

# Part of every fingerprint: count it up when a text changes.
TEMPLATE_VERSION = "1"

# What is held of texts at a time while they are encoded.
WINDOW_TEXTS, WINDOW_LENGTH = 1 << 14, 1 << 22

PersonaField = Literal["N", "D", "I", "R"]

PERSONA_FIELDS: dict[PersonaField, tuple[str, str]] = {
    "N": ("Name", "name"),
    "D": ("Description", "description"),
    "I": ("Item Summary", "item_summary"),
    "R": ("Preference Rationale", "preference_rationale"),
}


@dataclass(frozen=True)
class TextTemplate:
    """Which parts of personas and interactions are written into their texts."""

    schema: SchemaName
    with_aspects: bool = True
    persona_fields: tuple[PersonaField, ...] = ("N", "D", "I", "R")
    include_item_id: bool = False

    def persona_texts(self, personas: pl.DataFrame) -> pl.Series:
        """Text of each persona: `passage: [Persona]`, then its chosen fields, a line each, empty ones left out."""
        lines = [_line(*PERSONA_FIELDS[field]) for field in self.persona_fields]
        return _join_lines(personas, "passage: [Persona]", self._item_id() + lines)

    def interaction_texts(self, interactions: pl.DataFrame) -> pl.Series:
        """Text of each interaction: `query: [UserProfile-Interaction]`, the item's summary, the labelled aspects."""
        lines = [_line("Item Summary", "item_summary")]
        if self.with_aspects:
            lines += [line for aspect in ASPECTS_BY_SCHEMA[self.schema] for line in _aspect_lines(aspect)]
        return _join_lines(interactions, "query: [UserProfile-Interaction]", self._item_id() + lines)

    def _item_id(self) -> list[pl.Expr]:
        return [_line("Item ID", "item_id")] if self.include_item_id else []


def text_windows(lengths: npt.NDArray[np.integer]) -> Iterator[slice]:
    """Cut a list of texts, given by their lengths, into windows that are small enough to be held in memory."""
    begin, ends = 0, np.cumsum(lengths, dtype=np.int64)
    while begin < len(lengths):
        before = ends[begin - 1] if begin else 0
        end = int(np.searchsorted(ends, before + WINDOW_LENGTH, side="right"))
        end = min(max(end, begin + 1), begin + WINDOW_TEXTS)
        yield slice(begin, end)
        begin = end


def _aspect_lines(aspect: Aspect) -> list[pl.Expr]:
    """An aspect and, only where the aspect itself is given, its reason."""
    lines = [_line(aspect.label, aspect.key)]
    if aspect.has_reason:
        reason = _line(f"{aspect.label} Reason", aspect.reason_key)
        lines.append(pl.when(lines[0].is_not_null()).then(reason))
    return lines


def _line(label: str, column: str) -> pl.Expr:
    """`Label: value` with white space folded, null where the value is null or blank."""
    value = pl.col(column).str.replace_all(r"\s+", " ").str.strip_chars()
    return pl.when(value != "").then(pl.format(label + ": {}", value))


def _join_lines(rows: pl.DataFrame, first: str, lines: list[pl.Expr]) -> pl.Series:
    return rows.select(text=pl.concat_str(pl.lit(first), *lines, separator="\n", ignore_nulls=True))["text"]
