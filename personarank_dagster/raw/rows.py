"""What one line of each raw file must hold, in every accepted form. msgspec checks types and names the path.

Keys that public files hold and nothing here reads are declared too, as `Unread`: a line whose keys are all known is
proved to repeat none by counting (see `repeated_keys`), which is much faster than looking at each.
"""

import json
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from personarank_dagster.core.aspects import ASPECTS_BY_SCHEMA, SchemaName, aspect_columns

Text = Annotated[str, Meta(min_length=1)]
Rating = Annotated[float, Meta(ge=0, le=5)]
Timestamp = int | float | str
Unread = Any

# An absent key and an explicit null mean the same, but only the second is a key of the line.
OptionalText = Text | None | UnsetType
OptionalString = str | None | UnsetType


class RowError(ValueError):
    """A line has the right types but breaks a rule; the message says the rule and the value.

    `path` says where; it is empty for the line itself.
    """

    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.path = path


# The aspects of one review; which there are depends on the dataset's schema.
ASPECTS_TYPES: dict[SchemaName, type[Struct]] = {
    schema: msgspec.defstruct(
        f"{schema.capitalize()}Aspects",
        [(key, OptionalString, UNSET) for key in aspect_columns(schema)],
        module=__name__,
        gc=False,
    )
    for schema in ASPECTS_BY_SCHEMA
}
AmazonAspects, YelpAspects = ASPECTS_TYPES["amazon"], ASPECTS_TYPES["yelp"]

AspectsT = TypeVar("AspectsT", bound=Struct)

ITEM_KEYS = ("item_id", "business_id", "asin", "parent_asin")


class ItemRow(Struct, gc=False):
    """Base of rows about an item; the id may have any of the public names, but two must not differ."""

    item_id: OptionalText = UNSET
    business_id: OptionalText = UNSET
    asin: OptionalText = UNSET
    parent_asin: OptionalText = UNSET


class ReviewedItemRow(ItemRow, kw_only=True, gc=False):
    """Base of rows about a review, with all that public files say of one and most rows do not read."""

    rating: Unread = UNSET
    timestamp: Unread = UNSET
    review_id: Unread = UNSET
    review_title: Unread = UNSET
    review_text: Unread = UNSET


class ReviewRow(ReviewedItemRow, Generic[AspectsT], kw_only=True, gc=False):
    """One review inside a history."""

    rating: Rating
    timestamp: Timestamp
    user_id: OptionalText = UNSET
    summary: OptionalString = UNSET
    extracted: AspectsT | OptionalString = UNSET


class HistoryRow(Struct, Generic[AspectsT], gc=False):
    """`loo_history`: a user and the reviews."""

    user_id: Text
    reviews: list[ReviewRow[AspectsT]]


class PersonaRow(Struct, kw_only=True, gc=False):
    """One persona inside an item."""

    ID: Text
    Name: Text
    Description: str
    Preference_Rationale: str
    Item_Summary: OptionalString = UNSET
    unique_persona_id: OptionalText = UNSET


class ItemPersonasRow(ItemRow, kw_only=True, gc=False):
    """`persona`: an item and its personas."""

    personas: list[PersonaRow]
    item_title: Unread = UNSET
    item_description: Unread = UNSET
    item_summary: Unread = UNSET
    review_count: Unread = UNSET
    persona_count: Unread = UNSET


class JudgedRow(Struct, kw_only=True, gc=False):
    """Base of rows about a selection: what the judge said of it."""

    selected_persona_name: OptionalString = UNSET
    selection_reasoning: OptionalString = UNSET
    selected_persona: Unread = UNSET


class SelectionRow(JudgedRow, kw_only=True, gc=False):
    """One selection inside `persona_selections`."""

    target_item_id: Text
    selected_persona_id: Text
    user_id: OptionalText = UNSET


class SelectionsRow(JudgedRow, kw_only=True, gc=False):
    """`selected`: one selection of a user, or all of them in `persona_selections`."""

    user_id: Text
    persona_selections: list[SelectionRow] | UnsetType | None = UNSET
    target_item_id: OptionalText = UNSET
    selected_persona_id: OptionalText = UNSET


class CandidateRow(ItemRow, kw_only=True, gc=False):
    """One candidate inside a list."""

    score: float


class CandidatesRow(Struct, kw_only=True, gc=False):
    """`candidates`: a user and the retriever's list, best first."""

    user_id: Text
    results: list[CandidateRow]
    topk: Unread = UNSET
    filter_scope: Unread = UNSET
    context: Unread = UNSET


class GroundTruthRow(ReviewedItemRow, kw_only=True, gc=False):
    """`gt`: a held-out item of a user."""

    user_id: Text


class ItemSummaryRow(ItemRow, kw_only=True, gc=False):
    """`item_summary`: the summary of an item."""

    item_summary: OptionalString = UNSET
    item_title: Unread = UNSET
    item_description: Unread = UNSET


class ItemReviewRow(ReviewedItemRow, kw_only=True, gc=False):
    """`reviews`: who reviewed what, for the activity and popularity of the scenarios."""

    user_id: Text


class ReviewAspectsRow(ReviewedItemRow, Generic[AspectsT], kw_only=True, gc=False):
    """The aspects of one review inside an aspects file."""

    user_id: Text
    extracted_aspects: AspectsT | OptionalString = UNSET


class ItemAspectsRow(ReviewedItemRow, Generic[AspectsT], kw_only=True, gc=False):
    """`aspects`: an item with its reviews' aspects (`aspects` or `reviews`), or one review (`review`, or flat)."""

    aspects: list[ReviewAspectsRow[AspectsT]] | UnsetType | None = UNSET
    reviews: list[ReviewAspectsRow[AspectsT]] | UnsetType | None = UNSET
    review: ReviewAspectsRow[AspectsT] | UnsetType | None = UNSET
    user_id: OptionalText = UNSET
    extracted_aspects: AspectsT | OptionalString = UNSET
    item_title: Unread = UNSET
    item_description: Unread = UNSET
    item_summary: Unread = UNSET
    aspect_count: Unread = UNSET


def shorten(value: Any, limit: int = 60, *, quoted: bool = True) -> str:
    """A value of a line as it may stand in an error message: as JSON, text in single quotes."""
    as_json = value is None or isinstance(value, bool | list | dict)
    text = json.dumps(value, ensure_ascii=False) if as_json else repr(value) if quoted else str(value)
    text = text.encode(errors="backslashreplace").decode()
    return text if len(text) <= limit else text[: limit - 1] + "…"
