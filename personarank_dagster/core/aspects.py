"""The one table where amazon and yelp differ: the aspects that were extracted from a review."""

from dataclasses import dataclass
from typing import Literal

SchemaName = Literal["amazon", "yelp"]


@dataclass(frozen=True)
class Aspect:
    """One aspect of a review: its key in the raw files, its label in texts, and whether it comes with a reason."""

    key: str
    label: str
    has_reason: bool = True

    @property
    def reason_key(self) -> str:
        """Key of the reason in the raw files."""
        return f"{self.key}_reason"

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that hold this aspect in the histories table."""
        return (self.key, self.reason_key) if self.has_reason else (self.key,)


ASPECTS_BY_SCHEMA: dict[SchemaName, tuple[Aspect, ...]] = {
    "amazon": (
        Aspect("category_preference", "Category Preference"),
        Aspect("purchase_purpose", "Purchase Purpose"),
        Aspect("quality_criteria", "Quality Criteria"),
        Aspect("usage_context", "Usage Context"),
    ),
    "yelp": (
        Aspect("cuisine_category", "Cuisine Category"),
        Aspect("specific_dishes_or_attributes", "Specific Dishes or Attributes", has_reason=False),
        Aspect("visit_purpose", "Visit Purpose"),
        Aspect("quality_criteria", "Quality Criteria", has_reason=False),
        Aspect("visit_context", "Visit Context"),
    ),
}


def aspect_columns(schema: SchemaName) -> tuple[str, ...]:
    """Aspect columns of the histories table, in the order of the text template."""
    return tuple(column for aspect in ASPECTS_BY_SCHEMA[schema] for column in aspect.columns)
