"""Raw reviews and items in the forms that people download: Amazon Reviews 2014, 2018 and 2023, Yelp Open Dataset."""

import ast
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import xxhash
from msgspec import UNSET, Struct, UnsetType

from personarank_dagster.core import schemas
from personarank_dagster.raw.bad_lines import Account, ReadRules
from personarank_dagster.raw.columns import Columns, FileKind, Spread
from personarank_dagster.raw.ingestion import FAIL, Ingested
from personarank_dagster.raw.readers import read_tables
from personarank_dagster.raw.rows import OptionalString, OptionalText, Rating, RowError, Timestamp, Unread, shorten
from personarank_dagster.raw.times import microseconds

# Of 2023, `asin` is a variant (a colour, a size) of the product `parent_asin`; the product is the item.
ITEM_NAMES = ("business_id", "parent_asin", "asin", "item_id")


class DownloadedReviewRow(Struct, kw_only=True, gc=False):
    """`raw_reviews`: one review, under the names of any of the public sets."""

    user_id: OptionalText = UNSET
    reviewerID: OptionalText = UNSET  # noqa: N815 - the name in the files
    business_id: OptionalText = UNSET
    parent_asin: OptionalText = UNSET
    asin: OptionalText = UNSET
    item_id: OptionalText = UNSET
    review_id: OptionalText = UNSET
    rating: Rating | UnsetType | None = UNSET
    overall: Rating | UnsetType | None = UNSET
    stars: Rating | UnsetType | None = UNSET
    timestamp: Timestamp | UnsetType | None = UNSET
    unixReviewTime: Timestamp | UnsetType | None = UNSET  # noqa: N815
    date: Timestamp | UnsetType | None = UNSET
    title: OptionalString = UNSET
    summary: OptionalString = UNSET
    text: OptionalString = UNSET
    reviewText: OptionalString = UNSET  # noqa: N815
    reviewTime: Unread = UNSET  # noqa: N815
    reviewerName: Unread = UNSET  # noqa: N815
    verified: Unread = UNSET
    verified_purchase: Unread = UNSET
    vote: Unread = UNSET
    helpful: Unread = UNSET
    helpful_vote: Unread = UNSET
    style: Unread = UNSET
    image: Unread = UNSET
    images: Unread = UNSET
    useful: Unread = UNSET
    funny: Unread = UNSET
    cool: Unread = UNSET


class DownloadedItemRow(Struct, kw_only=True, gc=False):
    """`raw_items`: what the source says of one item."""

    business_id: OptionalText = UNSET
    parent_asin: OptionalText = UNSET
    asin: OptionalText = UNSET
    item_id: OptionalText = UNSET
    title: OptionalString = UNSET
    name: OptionalString = UNSET
    categories: Unread = UNSET
    category: Unread = UNSET
    description: Unread = UNSET
    features: Unread = UNSET
    feature: Unread = UNSET
    attributes: Unread = UNSET
    details: Unread = UNSET
    brand: Unread = UNSET
    store: Unread = UNSET
    city: Unread = UNSET
    hours: Unread = UNSET
    images: Unread = UNSET
    videos: Unread = UNSET
    also_buy: Unread = UNSET
    also_view: Unread = UNSET


def read_downloaded_reviews(path: Path, rules: ReadRules = FAIL) -> Ingested:
    """One row per review, by user and time (ties in file order); text and title are null where a review has none."""
    read = _read(path, REVIEWS, rules)
    kept = read.frame.unique("review_id", keep="first", maintain_order=True)
    ordered = kept.sort("user_id", "timestamp", maintain_order=True)
    return replace(read, table=ordered, left_out=_counted("repeated", read.frame.height - kept.height))


def read_downloaded_items(path: Path, rules: ReadRules = FAIL) -> Ingested:
    """One row per item; the first of an id counts."""
    read = _read(path, ITEMS, rules)
    kept = read.frame.unique("item_id", keep="first", maintain_order=True)
    return replace(read, table=kept, left_out=_counted("repeated", read.frame.height - kept.height))


def _read(path: Path, kind: FileKind, rules: ReadRules) -> Ingested:
    account = Account(path, rules)
    table = pl.concat(read_tables(path, kind, account))
    account.close()
    return Ingested(table, read=table.height + len(account.bad), bad_lines=account.bad)


def _counted(reason: str, count: int) -> dict[str, int]:
    return {reason: count} if count else {}


def _reviews(lines: Sequence[DownloadedReviewRow], spread: Spread) -> Columns:
    given = spread(lines, DownloadedReviewRow)
    times = _only(given, "timestamp", "unixReviewTime", "date")
    columns: Columns = {
        "user_id": _only(given, "user_id", "reviewerID"),
        "item_id": _first(given, *ITEM_NAMES),
        "rating": _only(given, "rating", "overall", "stars"),
        "timestamp": [microseconds(time, "timestamp") for time in times],
        "title": _blank_as_none(_only(given, "title", "summary", required=False)),
        "text": _blank_as_none(_only(given, "text", "reviewText", required=False)),
    }
    made_up = map(_content_id, *columns.values())
    ids = [own or made for own, made in zip(given["review_id"], made_up, strict=True)]
    return {"review_id": ids, **columns}


def _content_id(*values: object) -> str:
    """An id of a review that was given none: equal reviews have equal ones."""
    return f"r{xxhash.xxh3_64_hexdigest(repr(values).encode())}"


def _items(lines: Sequence[DownloadedItemRow], spread: Spread) -> Columns:
    given = spread(lines, DownloadedItemRow)
    names = ("brand", "store", "categories", "category", "city", "description", "features", "feature")
    facts = zip(*(given[name] for name in (*names, "attributes", "details")), strict=True)
    keys = (*names, "attributes", "details")
    return {
        "item_id": _first(given, *ITEM_NAMES),
        "title": _blank_as_none(_only(given, "title", "name", required=False)),
        "description": [_description(dict(zip(keys, values, strict=True))) or None for values in facts],
    }


def _description(facts: dict[str, Any]) -> str:
    """What the source says of an item, one fact a line, in the order of the keys."""
    texts = {key: _text(key, value) for key, value in facts.items()}
    return "\n".join(f"{key}: {text}" for key, text in texts.items() if text)


def _text(key: str, value: Any) -> str:
    if value is None or isinstance(value, bool):
        return ""
    if isinstance(value, str):
        return " ".join(value.split())
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list):
        return ", ".join(dict.fromkeys(filter(None, (_text(key, one) for one in value))))
    if isinstance(value, dict):
        return ", ".join(filter(None, (_attribute(name, one) for name, one in value.items())))
    raise RowError(key, f"expected text, a list or an object, got {shorten(value)}")


def _attribute(name: str, value: Any) -> str:
    """An attribute in words: those of Yelp are Python literals in strings. What is false or unknown says nothing."""
    value = _literal(value) if isinstance(value, str) else value
    if value is True:
        return name
    if value in (False, None, "", "none"):
        return ""
    if isinstance(value, dict):
        held = ", ".join(filter(None, (_attribute(str(inner), one) for inner, one in value.items())))
        return f"{name} ({held})" if held else ""
    return f"{name}: {_text(name, value)}"


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def _first(given: Columns, *names: str) -> list[Any]:
    """Of each line the first value that it has under these names. Raises RowError where there is none."""
    rows = zip(*(given[name] for name in names), strict=True)
    found = [next((value for value in row if value is not None), None) for row in rows]
    if None in found:
        raise RowError(names[0], f"is missing; expected one of {', '.join(names)}")
    return found


def _only(given: Columns, *names: str, required: bool = True) -> list[Any]:
    """The same where two different values are an error, and none is one where `required`."""
    for row in zip(*(given[name] for name in names), strict=True):
        held = {name: value for name, value in zip(names, row, strict=True) if value is not None}
        if len(set(held.values())) > 1:
            raise RowError(next(iter(held)), f"expected one of {', '.join(names)}, got {held}")
        if required and not held:
            raise RowError(names[0], f"is missing; expected one of {', '.join(names)}")
    rows = zip(*(given[name] for name in names), strict=True)
    return [next((value for value in row if value is not None), None) for row in rows]


def _blank_as_none(texts: Sequence[str | None]) -> list[str | None]:
    return [text.strip() or None if text else None for text in texts]


REVIEWS = FileKind(DownloadedReviewRow, schemas.REVIEWS, _reviews)
ITEMS = FileKind(DownloadedItemRow, schemas.ITEMS, _items)
