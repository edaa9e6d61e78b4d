"""Raw files in, tables out: each function reads one kind of file and counts every row that it leaves out."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from personarank_dagster.core import schemas
from personarank_dagster.core.datasets import SchemaName, aspect_columns
from personarank_dagster.core.errors import ContractError
from personarank_dagster.core.schemas import Schema
from personarank_dagster.storage.readers import read_rows
from personarank_dagster.storage.rows import (
    CandidatesRow,
    GroundTruthRow,
    HistoryRow,
    ItemAspectsRow,
    ItemPersonasRow,
    ItemReviewRow,
    ItemSummaryRow,
    ReviewRow,
    RowError,
    SelectionsRow,
    aspects_of,
    microseconds,
)

PAD = "[PAD]"


@dataclass(frozen=True)
class Ingested:
    """A table and the account of it: rows read = kept + left out, by reason. `filled` counts values, not rows."""

    table: pl.DataFrame
    read: int
    left_out: dict[str, int] = field(default_factory=dict)
    filled: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.read != self.table.height + sum(self.left_out.values()):
            raise ContractError(f"rows read {self.read} != kept {self.table.height} + left out {self.left_out}")


class _Columns:
    """A table under construction, column by column."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.columns: dict[str, list[Any]] = {name: [] for name in schema}
        self.left_out: Counter[str] = Counter()

    def add(self, *values: Any) -> None:
        for column, value in zip(self.columns.values(), values, strict=True):
            column.append(value)

    def table(self) -> pl.DataFrame:
        return pl.DataFrame(self.columns, schema=self.schema)


def read_personas(path: Path, item_summaries: pl.DataFrame | None = None) -> Ingested:
    """One row per persona, by item in file order. A missing Item_Summary is filled from `item_summaries`."""
    rows = _Columns(schemas.PERSONAS)
    for place, line in read_rows(path, ItemPersonasRow):
        try:
            item_id = line.item()
            for i, persona in enumerate(line.personas):
                full_id = f"{item_id}_{persona.ID}"
                if persona.unique_persona_id not in (None, full_id):
                    rule = f"expected {full_id!r}, got {persona.unique_persona_id!r}"
                    raise RowError(f"personas[{i}].unique_persona_id", rule)
                rows.add(
                    item_id,
                    persona.ID,
                    full_id,
                    persona.Name,
                    persona.Description,
                    persona.Preference_Rationale,
                    persona.Item_Summary,
                )
        except RowError as error:
            raise place.error(error) from None
    table, filled = _fill_summaries(rows.table(), item_summaries)
    return Ingested(table, read=table.height, filled=filled)


def read_histories(
    path: Path,
    schema: SchemaName,
    *,
    ground_truth: pl.DataFrame | None = None,
    item_summaries: pl.DataFrame | None = None,
    aspects: pl.DataFrame | None = None,
) -> Ingested:
    """One row per interaction, by user and time (ties in file order), without the user's ground-truth items.

    Missing summaries and aspects are filled from `item_summaries` and `aspects` where these are given.
    """
    rows = _Columns(schemas.histories(schema))
    keys = aspect_columns(schema)
    for place, line in read_rows(path, HistoryRow):
        try:
            for i, review in enumerate(line.reviews):
                rows.add(*_interaction(line.user_id, review, f"reviews[{i}].", keys))
        except RowError as error:
            raise place.error(error) from None
    table = rows.table().sort("user_id", "timestamp", maintain_order=True)
    kept = _without_ground_truth(table, ground_truth)
    kept, filled = _fill_summaries(kept, item_summaries)
    kept, filled_aspects = _fill_aspects(kept, keys, aspects)
    kept = kept.with_columns(position=pl.int_range(pl.len(), dtype=pl.UInt32).over("user_id"))
    left_out = _without_zeros({"the user's ground truth": table.height - kept.height})
    return Ingested(kept, read=table.height, left_out=left_out, filled=filled | filled_aspects)


def read_selections(path: Path, personas: pl.DataFrame, ground_truth: pl.DataFrame | None = None) -> Ingested:
    """One row per selection, resolved against the personas; never of a user's ground truth."""
    rows = _Columns(schemas.SELECTED_PERSONAS)
    for place, line in read_rows(path, SelectionsRow):
        try:
            for one in line.selections():
                full_id = _full_persona_id(one.target_item_id, one.selected_persona_id)
                name, reasoning = one.selected_persona_name, one.selection_reasoning
                rows.add(line.user_id, one.target_item_id, full_id, name, reasoning)
        except RowError as error:
            raise place.error(error) from None
    table = rows.table()
    trainable = _without_ground_truth(table, ground_truth, item="target_item_id")
    catalogue = personas.select("unique_persona_id", target_item_id="item_id")
    resolved = trainable.join(
        catalogue, on=["target_item_id", "unique_persona_id"], how="semi", maintain_order="left"
    )
    left_out = {
        "the target is the user's ground truth": table.height - trainable.height,
        "the persona is not in the catalogue": trainable.height - resolved.height,
    }
    return Ingested(resolved, read=table.height, left_out=_without_zeros(left_out))


def read_candidates(path: Path) -> Ingested:
    """One row per (user, rank), best first, without `[PAD]` entries and repeated items."""
    rows = _Columns(schemas.CANDIDATES)
    read = 0
    for place, line in read_rows(path, CandidatesRow):
        seen: set[str] = set()
        for i, candidate in enumerate(line.results):
            read += 1
            try:
                item_id = candidate.item(f"results[{i}].")
            except RowError as error:
                raise place.error(error) from None
            if item_id == PAD or item_id in seen:
                rows.left_out["padding" if item_id == PAD else "repeated candidate"] += 1
                continue
            seen.add(item_id)
            rows.add(line.user_id, len(seen), item_id, candidate.score)
    return Ingested(rows.table(), read=read, left_out=dict(rows.left_out))


def read_ground_truth(path: Path) -> Ingested:
    """One row per (user, held-out item)."""
    table = _user_items(path, GroundTruthRow)
    kept = table.unique(maintain_order=True)
    return Ingested(kept, read=table.height, left_out=_without_zeros({"repeated": table.height - kept.height}))


def read_reviews(path: Path) -> pl.DataFrame:
    """(user, item) of every review, for the activity and popularity of the scenarios."""
    return _user_items(path, ItemReviewRow)


def read_item_summaries(path: Path) -> pl.DataFrame:
    """Item summaries: item_id, item_summary; the first of an item counts."""
    rows = _Columns({"item_id": pl.String(), "item_summary": pl.String()})
    for place, line in read_rows(path, ItemSummaryRow):
        try:
            rows.add(line.item(), line.item_summary)
        except RowError as error:
            raise place.error(error) from None
    return rows.table().drop_nulls().unique("item_id", keep="first", maintain_order=True)


def read_aspects(path: Path, schema: SchemaName) -> pl.DataFrame:
    """Aspects by review: user_id, item_id and the aspect columns; the first review of a user and item counts."""
    keys = aspect_columns(schema)
    rows = _Columns({name: pl.String() for name in ("user_id", "item_id", *keys)})
    for place, line in read_rows(path, ItemAspectsRow):
        try:
            for i, review in enumerate(line.reviews_with_aspects()):
                found = aspects_of(review.extracted_aspects, f"aspects[{i}].extracted_aspects")
                rows.add(review.user_id, review.item_id or line.item(), *(found.get(key) for key in keys))
        except RowError as error:
            raise place.error(error) from None
    return rows.table().unique(["user_id", "item_id"], keep="first", maintain_order=True)


def _interaction(user_id: str, review: ReviewRow, path: str, keys: tuple[str, ...]) -> Iterator[Any]:
    if review.user_id not in (None, user_id):
        raise RowError(path + "user_id", f"expected the user of the line, {user_id!r}, got {review.user_id!r}")
    yield user_id
    yield 0  # the position is known once all reviews are sorted
    yield review.item(path)
    yield review.rating
    yield microseconds(review.timestamp, path + "timestamp")
    yield review.summary
    extracted = aspects_of(review.extracted, path + "extracted")
    yield from (extracted.get(key) for key in keys)


def _user_items(path: Path, row_type: type[GroundTruthRow] | type[ItemReviewRow]) -> pl.DataFrame:
    rows = _Columns(schemas.GROUND_TRUTH)
    for place, line in read_rows(path, row_type):
        try:
            rows.add(line.user_id, line.item())
        except RowError as error:
            raise place.error(error) from None
    return rows.table()


def _full_persona_id(item_id: str, persona_id: str) -> str:
    """`<item_id>_<ID>`, whether the id is given short (`P3`) or full."""
    return persona_id if persona_id.startswith(f"{item_id}_") else f"{item_id}_{persona_id}"


def _without_ground_truth(
    table: pl.DataFrame, ground_truth: pl.DataFrame | None, item: str = "item_id"
) -> pl.DataFrame:
    if ground_truth is None:
        return table
    keys = ground_truth.select("user_id", pl.col("item_id").alias(item))
    return table.join(keys, on=["user_id", item], how="anti", maintain_order="left")


def _fill_summaries(table: pl.DataFrame, summaries: pl.DataFrame | None) -> tuple[pl.DataFrame, dict[str, int]]:
    if summaries is None or not table["item_summary"].null_count():
        return table, {}
    given = table.join(summaries, on="item_id", how="left", maintain_order="left", suffix="_given")
    filled = given.with_columns(pl.coalesce("item_summary", "item_summary_given")).select(table.columns)
    num_filled = table["item_summary"].null_count() - filled["item_summary"].null_count()
    return filled, _without_zeros({"item_summary": num_filled})


def _fill_aspects(
    table: pl.DataFrame, keys: tuple[str, ...], aspects: pl.DataFrame | None
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Fill interactions that have no aspect at all; a review with some aspects null is as its extraction left it."""
    if aspects is None:
        return table, {}
    missing = pl.all_horizontal(pl.col(key).is_null() for key in keys)
    given = table.join(aspects, on=["user_id", "item_id"], how="left", maintain_order="left", suffix="_given")
    filled = given.with_columns(
        pl.when(missing).then(pl.col(f"{key}_given")).otherwise(pl.col(key)).alias(key) for key in keys
    )
    filled = filled.select(table.columns)
    num_filled = table.filter(missing).height - filled.filter(missing).height
    return filled, _without_zeros({"aspects": num_filled})


def _without_zeros(counts: dict[str, int]) -> dict[str, int]:
    return {reason: count for reason, count in counts.items() if count}
