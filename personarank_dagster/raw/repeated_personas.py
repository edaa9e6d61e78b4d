"""Persona ids that are given twice: the line that gives one again is bad, and names the line before.

Tables know no lines, so the file is read once more, line by line, if and only if an id is there twice.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import msgspec
import polars as pl

from personarank_dagster.core.errors import InputError
from personarank_dagster.raw.bad_lines import Account, BadLine
from personarank_dagster.raw.columns import PERSONAS, Columns
from personarank_dagster.raw.parts import parts_of
from personarank_dagster.raw.readers import decode_line, whole_lines

FULL_ID = "unique_persona_id"


@dataclass(frozen=True)
class _Line:
    path: Path
    number: int
    content: bytes
    columns: Columns


@dataclass(frozen=True)
class _Persona:
    item_id: str
    persona_id: str
    line: _Line

    @property
    def name(self) -> str:
        return f"{self.persona_id!r} of item {self.item_id!r}"


def without_repeated_ids(personas: pl.DataFrame, path: Path, account: Account) -> pl.DataFrame:
    """The personas without the lines that give an id again; these go into the account, each whole."""
    repeated = set(personas.filter(pl.col(FULL_ID).is_duplicated())[FULL_ID])
    if not repeated:
        return personas
    first: dict[str, _Persona] = {}
    keep: list[bool] = []
    bad: list[BadLine] = []
    for line in _good_lines(path, account):
        own: dict[str, _Persona] = {}
        problem = _problem(line, repeated, first, own)
        keep += [problem is None] * len(line.columns[FULL_ID])
        if problem:
            bad.append(BadLine(line.path, line.number, *problem, line.content))
        else:
            first |= own
    if len(keep) != personas.height:
        raise InputError(f"{path}: changed while it was read; run again when it is complete")
    account.add(0, bad, lines_before=0)
    return personas.filter(pl.Series(keep, dtype=pl.Boolean))


def _good_lines(path: Path, account: Account) -> Iterator[_Line]:
    decoder = msgspec.json.Decoder(PERSONAS.row_type)
    for part in parts_of(path):
        blocks = whole_lines(part, PERSONAS, account.rules)
        lines = chain.from_iterable(block.removesuffix(b"\n").split(b"\n") for block in blocks)
        for number, content in enumerate(lines, start=1):
            try:
                yield _Line(part, number, content, decode_line(content, PERSONAS, decoder))
            except (ValueError, RecursionError):
                continue


def _problem(
    line: _Line, repeated: set[str], first: Mapping[str, _Persona], own: dict[str, _Persona]
) -> tuple[str, str] | None:
    """Field and problem of the first id that was given before, in this line or an earlier one; None if none was."""
    names = ("item_id", "persona_id", FULL_ID)
    for i, (item_id, persona_id, full_id) in enumerate(zip(*(line.columns[name] for name in names), strict=True)):
        persona = _Persona(item_id, persona_id, line)
        if before := own.get(full_id) or first.get(full_id):
            return f"personas[{i}].ID", _collision(persona, before, full_id)
        if full_id in repeated:
            own[full_id] = persona
    return None


def _collision(persona: _Persona, before: _Persona, full_id: str) -> str:
    where = f"{before.line.path} line" if before.line.path != persona.line.path else "line"
    place = f"{where} {before.line.number}"
    if persona.name == before.name:
        return f"expected each ID of an item once, got {persona.name} again, after {place}"
    return (
        f"expected each full id once, got {full_id!r} for {persona.name}, after {before.name} in {place}; rename one"
    )
