"""What one line of each raw file must hold, in every accepted form. msgspec checks types and names the path."""

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import astuple

Text = Annotated[str, Meta(min_length=1)]
Rating = Annotated[float, Meta(ge=0, le=5)]
Timestamp = int | float | str

# Epoch numbers from here on are milliseconds: as seconds they would lie beyond the year 5000.
FIRST_MILLISECONDS = 100_000_000_000

# The year 3000, in microseconds.
LAST_MICROSECONDS = 32_503_680_000_000_000


class RowError(ValueError):
    """A line has the right types but breaks a rule; `path` says where, the message says the rule and the value."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.path = path

    def within(self, outer: str) -> "RowError":
        """The same error, seen from an object that holds the one at fault."""
        return RowError(f"{outer}.{self.path}", str(self))


class ItemRow(Struct):
    """Base of rows about an item; the id may have any of the public names, but two must not differ."""

    item_id: Text | None = None
    business_id: Text | None = None
    asin: Text | None = None
    parent_asin: Text | None = None

    def item(self) -> str:
        """The item id. Raises RowError if none is given or two differ."""
        if self.item_id is not None and self.business_id is self.asin is self.parent_asin is None:
            return self.item_id
        given: dict[str, str] = {name: value for name in _ITEM_KEYS if (value := getattr(self, name)) is not None}
        if not given:
            raise RowError("item_id", f"is missing; expected one of {', '.join(_ITEM_KEYS)}")
        if len(set(given.values())) > 1:
            raise RowError("item_id", f"item ids differ: got {given}")
        return next(iter(given.values()))


_ITEM_KEYS = ("item_id", "business_id", "asin", "parent_asin")


class ReviewRow(ItemRow, kw_only=True):
    """One review inside a history."""

    rating: Rating
    timestamp: Timestamp
    user_id: Text | None = None
    summary: str | None = None
    extracted: dict[str, str | None] | str | None = None
    review_title: str | None = None

    def num_keys(self) -> int:
        """See `HistoryRow.num_keys`."""
        values = astuple(self)
        inner = len(self.extracted) if isinstance(self.extracted, dict) else 0
        return len(values) - values.count(None) + inner


class HistoryRow(Struct):
    """`loo_history`: a user and the reviews, chronological."""

    user_id: Text
    reviews: list[ReviewRow]

    def num_keys(self) -> int:
        """Distinct keys with a value, in all objects of the line: as many as it has if it repeats and adds none."""
        return 2 + sum(review.num_keys() for review in self.reviews)


class PersonaRow(Struct, kw_only=True):
    """One persona inside an item."""

    ID: Text
    Name: Text
    Description: str
    Preference_Rationale: str
    Item_Summary: str | None = None
    unique_persona_id: Text | None = None


class ItemPersonasRow(ItemRow, kw_only=True):
    """`persona`: an item and its personas."""

    personas: list[PersonaRow]


class SelectionRow(Struct, kw_only=True):
    """One selection, alone on its line or inside `persona_selections`."""

    target_item_id: Text
    selected_persona_id: Text
    user_id: Text | None = None
    selected_persona_name: str | None = None
    selection_reasoning: str | None = None


class SelectionsRow(Struct, kw_only=True):
    """`selected`: one selection of a user, or all of them in `persona_selections`."""

    user_id: Text
    persona_selections: list[SelectionRow] | None = None
    target_item_id: Text | None = None
    selected_persona_id: Text | None = None
    selected_persona_name: str | None = None
    selection_reasoning: str | None = None

    def selections(self) -> list[SelectionRow]:
        """The selections of this line. Raises RowError if it is neither a single nor a grouped one."""
        if self.persona_selections is not None:
            return self.persona_selections
        if self.target_item_id is None or self.selected_persona_id is None:
            missing = "target_item_id" if self.target_item_id is None else "selected_persona_id"
            raise RowError(missing, "is missing; expected a single selection or persona_selections")
        return [
            SelectionRow(
                target_item_id=self.target_item_id,
                selected_persona_id=self.selected_persona_id,
                selected_persona_name=self.selected_persona_name,
                selection_reasoning=self.selection_reasoning,
            )
        ]


class CandidateRow(ItemRow, kw_only=True):
    """One candidate inside a list."""

    score: float


class CandidatesRow(Struct):
    """`candidates`: a user and the retriever's list, best first."""

    user_id: Text
    results: list[CandidateRow]


class GroundTruthRow(ItemRow, kw_only=True):
    """`gt`: a held-out item of a user."""

    user_id: Text


class ItemSummaryRow(ItemRow, kw_only=True):
    """`item_summary`: the summary of an item."""

    item_summary: str | None = None


class ItemReviewRow(ItemRow, kw_only=True):
    """`reviews`: who reviewed what, for the activity and popularity of the scenarios."""

    user_id: Text


class ReviewAspectsRow(Struct, kw_only=True):
    """The aspects of one review inside an aspects file."""

    user_id: Text
    extracted_aspects: dict[str, str | None] | str | None = None
    item_id: Text | None = None


class ItemAspectsRow(ItemRow, kw_only=True):
    """`aspects`: an item with its reviews' aspects (`aspects` or `reviews`), or one review (`review`, or flat)."""

    aspects: list[ReviewAspectsRow] | None = None
    reviews: list[ReviewAspectsRow] | None = None
    review: ReviewAspectsRow | None = None
    user_id: Text | None = None
    extracted_aspects: dict[str, str | None] | str | None = None

    def reviews_with_aspects(self) -> list[ReviewAspectsRow]:
        """The reviews of this line, in whichever form. Raises RowError if there is none."""
        if (grouped := self.aspects if self.aspects is not None else self.reviews) is not None:
            return grouped
        if self.review is not None:
            return [self.review]
        if self.user_id is None:
            raise RowError("aspects", "is missing; expected aspects, reviews, review or a flat review")
        return [ReviewAspectsRow(user_id=self.user_id, extracted_aspects=self.extracted_aspects)]


def aspects_of(extracted: dict[str, str | None] | str | None, path: str = "extracted") -> dict[str, str | None]:
    """Extracted aspects given as an object or as its JSON text; none at all is empty."""
    if not isinstance(extracted, str):
        return extracted or {}
    try:
        return msgspec.json.decode(extracted, type=dict[str, str | None]) if extracted.strip() else {}
    except msgspec.DecodeError as error:
        raise RowError(path, f"expected an object or its JSON text: {error}, got {shorten(extracted)}") from error


def microseconds(timestamp: Timestamp, path: str = "timestamp") -> int:
    """UTC microseconds of epoch seconds, epoch milliseconds, or ISO text (UTC where it names no zone)."""
    if not isinstance(timestamp, str):
        scale = 1_000 if abs(timestamp) >= FIRST_MILLISECONDS else 1_000_000
        if not abs(timestamp) * scale < LAST_MICROSECONDS:
            raise RowError(path, f"expected a time before the year 3000, got {timestamp}")
        return round(timestamp * scale)
    try:
        moment = datetime.fromisoformat(timestamp)
    except ValueError:
        raise RowError(path, f"expected epoch seconds or milliseconds or ISO text, got {timestamp!r}") from None
    return _epoch_microseconds(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _epoch_microseconds(moment: datetime) -> int:
    gap = moment - _EPOCH
    return (gap.days * 86_400 + gap.seconds) * 1_000_000 + gap.microseconds


def shorten(value: Any, limit: int = 60) -> str:
    """A value as it may stand in an error message."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
