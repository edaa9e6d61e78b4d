"""Lines of each kind of raw file as columns, and the rules that types cannot say.

Every kind has a function that takes whole lines at once, since columns are made ten times faster than rows. It
raises RowError with a path inside its line, which is right if it was given one line only.
"""

import typing
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import chain, repeat
from math import isfinite
from typing import Any, TypeVar

import msgspec
import polars as pl
from msgspec import UNSET, Struct
from msgspec.structs import astuple

from personarank_dagster.core import schemas
from personarank_dagster.core.aspects import SchemaName, aspect_columns
from personarank_dagster.core.errors import listed_by_name
from personarank_dagster.core.schemas import Schema
from personarank_dagster.raw.explanations import place_and_problem
from personarank_dagster.raw.repeated_keys import count_keys, refuse_repeated_keys
from personarank_dagster.raw.rows import (
    ASPECTS_TYPES,
    ITEM_KEYS,
    CandidateRow,
    CandidatesRow,
    GroundTruthRow,
    HistoryRow,
    ItemAspectsRow,
    ItemPersonasRow,
    ItemReviewRow,
    ItemSummaryRow,
    PersonaRow,
    ReviewAspectsRow,
    ReviewRow,
    RowError,
    SelectionRow,
    SelectionsRow,
    Timestamp,
    Unread,
    shorten,
)
from personarank_dagster.raw.times import LAST_MICROSECONDS, SURELY_MILLISECONDS, microseconds

ValueT = TypeVar("ValueT")
Columns = dict[str, Sequence[Any]]


class Spread:
    """Spreads objects out into one column per field, and counts the keys that they had."""

    def __init__(self) -> None:
        self.num_keys = 0

    def __call__(self, objects: Sequence[Struct], row_type: type[Struct]) -> Columns:
        """Columns by field name; absent values are None. The objects are all of this type."""
        columns: Columns = {}
        values = zip(*map(astuple, objects), strict=True) if objects else repeat(())
        for name, column in zip(row_type.__struct_fields__, values, strict=False):
            num_absent = column.count(UNSET)
            self.num_keys += len(column) - num_absent
            if num_absent == len(column):
                columns[name] = [None] * len(column)
            else:
                columns[name] = [None if value is UNSET else value for value in column] if num_absent else column
        for name in _unread_fields(row_type):
            if not {dict, list}.isdisjoint(map(type, columns[name])):
                self.num_keys += sum(map(_num_keys, columns[name]))
        return columns


@dataclass(frozen=True)
class FileKind:
    """A kind of raw file: the type of its lines, the columns they become, and how."""

    row_type: Any
    schema: Schema
    columns_of: Callable[[Sequence[Any], Spread], Columns]


@cache
def histories(schema: SchemaName) -> FileKind:
    """`loo_history`: one row per review."""
    aspects = ASPECTS_TYPES[schema]
    columns = {name: dtype for name, dtype in schemas.histories(schema).items() if name != "position"}
    return FileKind(HistoryRow[aspects], columns, partial(_interactions, aspects=aspects))  # type: ignore[valid-type]


@cache
def review_aspects(schema: SchemaName) -> FileKind:
    """`aspects`: one row per review."""
    aspects = ASPECTS_TYPES[schema]
    columns: Schema = {name: pl.String() for name in ("user_id", "item_id", *aspect_columns(schema))}
    return FileKind(ItemAspectsRow[aspects], columns, partial(_review_aspects, aspects=aspects))  # type: ignore[valid-type]


def _interactions(lines: Sequence[HistoryRow[Any]], spread: Spread, *, aspects: type[Struct]) -> Columns:
    line_users, lists = spread(lines, HistoryRow).values()
    reviews = spread(_flat(lists), ReviewRow)
    users = _for_each(line_users, lists)
    _check_equal("reviews[{}].user_id", "the user of the line, ", reviews["user_id"], users)
    _check_finite("reviews[{}].rating", reviews["rating"])
    return {
        "user_id": users,
        "item_id": _item_ids("reviews[{}].item_id", reviews),
        "rating": reviews["rating"],
        "timestamp": _microseconds("reviews[{}].timestamp", reviews["timestamp"]),
        "item_summary": reviews["summary"],
        **_aspects("reviews[{}].extracted", reviews["extracted"], aspects, spread),
    }


def _personas(lines: Sequence[ItemPersonasRow], spread: Spread) -> Columns:
    columns = spread(lines, ItemPersonasRow)
    personas = spread(_flat(columns["personas"]), PersonaRow)
    items = _for_each(_item_ids("item_id", columns), columns["personas"])
    full_ids = [f"{item_id}_{persona_id}" for item_id, persona_id in zip(items, personas["ID"], strict=True)]
    _check_equal("personas[{}].unique_persona_id", "", personas["unique_persona_id"], full_ids)
    return {
        "item_id": items,
        "persona_id": personas["ID"],
        "unique_persona_id": full_ids,
        "name": personas["Name"],
        "description": personas["Description"],
        "preference_rationale": personas["Preference_Rationale"],
        "item_summary": personas["Item_Summary"],
    }


def _selections(lines: Sequence[SelectionsRow], spread: Spread) -> Columns:
    columns = spread(lines, SelectionsRow)
    spread(_flat(line.persona_selections or [] for line in lines), SelectionRow)
    lists = [_selections_of(line) for line in lines]
    selections = Spread()(_flat(lists), SelectionRow)
    users = _for_each(columns["user_id"], lists)
    _check_equal("persona_selections[{}].user_id", "the user of the line, ", selections["user_id"], users)
    return {
        "user_id": users,
        "target_item_id": selections["target_item_id"],
        "selected_persona_id": selections["selected_persona_id"],
        "selected_persona_name": selections["selected_persona_name"],
        "selection_reasoning": selections["selection_reasoning"],
    }


def _selections_of(line: SelectionsRow) -> list[SelectionRow]:
    if isinstance(line.persona_selections, list):
        if line.target_item_id:
            raise RowError("target_item_id", "expected a single selection or persona_selections, got both")
        return line.persona_selections
    for name in ("target_item_id", "selected_persona_id"):
        if not getattr(line, name):
            raise RowError(name, "is missing; expected a single selection or persona_selections")
    single = SelectionRow(
        target_item_id=str(line.target_item_id),
        selected_persona_id=str(line.selected_persona_id),
        selected_persona_name=line.selected_persona_name,
        selection_reasoning=line.selection_reasoning,
    )
    return [single]


def _candidates(lines: Sequence[CandidatesRow], spread: Spread) -> Columns:
    columns = spread(lines, CandidatesRow)
    candidates = spread(_flat(columns["results"]), CandidateRow)
    _check_finite("results[{}].score", candidates["score"])
    return {
        "user_id": _for_each(columns["user_id"], columns["results"]),
        "candidate_rank": _flat(range(1, len(results) + 1) for results in columns["results"]),
        "item_id": _item_ids("results[{}].item_id", candidates),
        "candidate_score": candidates["score"],
    }


def _user_items(lines: Sequence[Struct], spread: Spread, *, row_type: type[Struct]) -> Columns:
    columns = spread(lines, row_type)
    return {"user_id": columns["user_id"], "item_id": _item_ids("item_id", columns)}


def _item_summaries(lines: Sequence[ItemSummaryRow], spread: Spread) -> Columns:
    columns = spread(lines, ItemSummaryRow)
    return {"item_id": _item_ids("item_id", columns), "item_summary": columns["item_summary"]}


def _review_aspects(lines: Sequence[ItemAspectsRow[Any]], spread: Spread, *, aspects: type[Struct]) -> Columns:
    columns = spread(lines, ItemAspectsRow)
    items = _item_ids("item_id", columns)
    forms = [_reviews_of(line) for line in lines]
    spread(_flat(given for given, _ in forms), ReviewAspectsRow)
    lists = [[*given, *flat] for given, flat in forms]
    reviews = Spread()(_flat(lists), ReviewAspectsRow)
    line_items, own_items = _for_each(items, lists), _item_ids("aspects[{}].item_id", reviews, required=False)
    return {
        "user_id": reviews["user_id"],
        "item_id": [own or item for own, item in zip(own_items, line_items, strict=True)],
        **_aspects("aspects[{}].extracted_aspects", reviews["extracted_aspects"], aspects, spread),
    }


def _reviews_of(line: ItemAspectsRow[Any]) -> tuple[list[ReviewAspectsRow[Any]], list[ReviewAspectsRow[Any]]]:
    """Reviews that the line gives as objects, and the one that is the line itself."""
    forms = {name: getattr(line, name) for name in ("aspects", "reviews", "review")}
    given = {name: value for name, value in forms.items() if value}
    if len(given) > 1:
        raise RowError(next(iter(given)), f"expected one form, got {' and '.join(given)}")
    for value in given.values():
        return (value if isinstance(value, list) else [value]), []
    if [] in forms.values():
        return [], []
    if line.user_id:
        return [], [ReviewAspectsRow(user_id=line.user_id, extracted_aspects=line.extracted_aspects)]
    raise RowError("aspects", "is missing; expected aspects, reviews, review or a flat review")


def _aspects(path: str, extracted: Sequence[Any], aspects: type[Struct], spread: Spread) -> Columns:
    """Aspect columns of values that are objects, the JSON text of objects, or None."""
    if set(map(type, extracted)) == {aspects}:
        return spread(extracted, aspects)
    spread([value for value in extracted if isinstance(value, aspects)], aspects)
    given = [
        value if isinstance(value, aspects) else _parse_aspects(path.format(i), value, aspects)
        for i, value in enumerate(extracted)
    ]
    return Spread()(given, aspects)


def _parse_aspects(path: str, text: str | None, aspects: type[Struct]) -> Struct:
    if text is None or not text.strip():
        return aspects()
    try:
        parsed: Struct = msgspec.json.decode(text, type=aspects)
        spread = Spread()
        spread([parsed], aspects)
        if count_keys(text.encode()) != spread.num_keys:
            refuse_repeated_keys(text)
    except (ValueError, RecursionError) as error:
        inner, problem = place_and_problem(error, text.encode())
        if inner:
            raise RowError(f"{path}.{inner}", problem) from error
        raise RowError(path, f"{problem}, got {shorten(text)}; expected an object or its JSON text") from error
    return parsed


def _item_ids(path: str, columns: Columns, *, required: bool = True) -> Sequence[Any]:
    """The item id of each object, under whichever name. Raises RowError where none is given or two differ."""
    given = [column for name in ITEM_KEYS if (column := columns[name]).count(None) < len(column)]
    if len(given) == 1 and None not in given[0]:
        return given[0]
    names = [columns[name] for name in ITEM_KEYS]
    return [_item_id(path.format(i), values, required) for i, values in enumerate(zip(*names, strict=True))]


def _item_id(path: str, values: tuple[str | None, ...], required: bool) -> str | None:
    given = {name: value for name, value in zip(ITEM_KEYS, values, strict=True) if value is not None}
    if len(set(given.values())) > 1:
        raise RowError(path, f"expected one id, got {listed_by_name(given)}")
    if required and not given:
        raise RowError(path, f"is missing; expected one of {', '.join(ITEM_KEYS)}")
    return next(iter(given.values()), None)


def _microseconds(path: str, timestamps: Sequence[Timestamp]) -> Sequence[int]:
    if set(map(type, timestamps)) == {int}:
        whole = typing.cast("Sequence[int]", timestamps)
        if min(whole) >= SURELY_MILLISECONDS and max(whole) * 1_000 < LAST_MICROSECONDS:
            return [timestamp * 1_000 for timestamp in whole]
    return [microseconds(timestamp, path.format(i)) for i, timestamp in enumerate(timestamps)]


def _check_equal(path: str, what: str, given: Sequence[str | None], expected: Sequence[str]) -> None:
    """Raise RowError at the first value that is given and is not what is expected."""
    if list(given) == expected:
        return
    for i, (value, should) in enumerate(zip(given, expected, strict=True)):
        if value is not None and value != should:
            raise RowError(path.format(i), f"expected {what}{should!r}, got {value!r}")


def _check_finite(path: str, numbers: Sequence[float]) -> None:
    if not all(map(isfinite, numbers)):
        i, number = next((i, number) for i, number in enumerate(numbers) if not isfinite(number))
        raise RowError(path.format(i), f"expected a finite number, got {number}")


def _flat(lists: Iterable[Iterable[ValueT]]) -> list[ValueT]:
    return list(chain.from_iterable(lists))


def _for_each(values: Sequence[ValueT], lists: Sequence[Sequence[Any]]) -> list[ValueT]:
    """Each value as often as its list is long."""
    return _flat(map(repeat, values, map(len, lists)))


@cache
def _unread_fields(row_type: type[Struct]) -> tuple[str, ...]:
    return tuple(field.name for field in msgspec.structs.fields(row_type) if field.type is Unread)


def _num_keys(value: object) -> int:
    if isinstance(value, dict):
        return len(value) + sum(map(_num_keys, value.values()))
    return sum(map(_num_keys, value)) if isinstance(value, list) else 0


_USER_ITEM: Schema = {"user_id": pl.String(), "item_id": pl.String()}

PERSONAS = FileKind(ItemPersonasRow, schemas.PERSONAS, _personas)
_SELECTION = ("user_id", "target_item_id", "selected_persona_id", "selected_persona_name", "selection_reasoning")
SELECTIONS = FileKind(SelectionsRow, dict.fromkeys(_SELECTION, pl.String()), _selections)
CANDIDATES = FileKind(CandidatesRow, schemas.CANDIDATES, _candidates)
GROUND_TRUTH = FileKind(GroundTruthRow, _USER_ITEM, partial(_user_items, row_type=GroundTruthRow))
REVIEWS = FileKind(ItemReviewRow, _USER_ITEM, partial(_user_items, row_type=ItemReviewRow))
ITEM_SUMMARIES = FileKind(ItemSummaryRow, {"item_id": pl.String(), "item_summary": pl.String()}, _item_summaries)
