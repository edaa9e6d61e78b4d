"""Raw files in, tables out: each function reads one kind of file and counts every row that it leaves out."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

import polars as pl

from personarank_dagster.core import schemas
from personarank_dagster.core.datasets import SchemaName, aspect_columns
from personarank_dagster.core.errors import ContractError
from personarank_dagster.core.schemas import Schema
from personarank_dagster.storage.readers import BadLine, ReadRules, check_share, read_rows
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

RowT = TypeVar("RowT")

FAIL = ReadRules()

PAD = "[PAD]"

# Rows that are Python objects at a time, before they become columns.
CHUNK_ROWS = 50_000


@dataclass(frozen=True)
class Ingested:
    """A table and the account of it: rows read = kept + quarantined lines + left out, by reason.

    `filled` counts values that were missing and came from another file; `bad_lines` were set aside.
    """

    table: pl.DataFrame
    read: int
    left_out: dict[str, int] = field(default_factory=dict)
    filled: dict[str, int] = field(default_factory=dict)
    bad_lines: list[BadLine] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.read != self.table.height + len(self.bad_lines) + sum(self.left_out.values()):
            raise ContractError(
                f"rows read {self.read} != kept {self.table.height} + quarantined {len(self.bad_lines)} "
                f"+ left out {self.left_out}"
            )


Values = tuple[Any, ...]


def read_personas(path: Path, rules: ReadRules = FAIL, *, item_summaries: pl.DataFrame | None = None) -> Ingested:
    """One row per persona, by item in file order. A missing Item_Summary is filled from `item_summaries`."""
    read = _read(path, ItemPersonasRow, schemas.PERSONAS, _persona_values, rules)
    table, filled = _fill_summaries(read.table, item_summaries)
    return replace(read, table=table, filled=filled)


def read_histories(
    path: Path,
    schema: SchemaName,
    rules: ReadRules = FAIL,
    *,
    ground_truth: pl.DataFrame | None = None,
    item_summaries: pl.DataFrame | None = None,
    aspects: pl.DataFrame | None = None,
) -> Ingested:
    """One row per interaction, by user and time (ties in file order), without the user's ground-truth items.

    Missing summaries and aspects are filled from `item_summaries` and `aspects` where these are given.
    """
    keys = aspect_columns(schema)
    columns = schemas.histories(schema)
    read = _read(path, HistoryRow, columns, lambda line: _interaction_values(line, keys), rules)
    table = read.table.sort("user_id", "timestamp", maintain_order=True)
    kept = _without_ground_truth(table, ground_truth)
    kept, filled = _fill_summaries(kept, item_summaries)
    kept, filled_aspects = _fill_aspects(kept, keys, aspects)
    kept = kept.with_columns(position=pl.int_range(pl.len(), dtype=pl.UInt32).over("user_id"))
    left_out = _without_zeros({"the user's ground truth": table.height - kept.height})
    return replace(read, table=kept, left_out=left_out, filled=filled | filled_aspects)


def read_selections(
    path: Path, personas: pl.DataFrame, rules: ReadRules = FAIL, *, ground_truth: pl.DataFrame | None = None
) -> Ingested:
    """One row per selection, never of a user's ground truth; `resolved` where its target has that persona."""
    read = _read(path, SelectionsRow, schemas.SELECTED_PERSONAS, _selection_values, rules)
    trainable = _without_ground_truth(read.table, ground_truth, item="target_item_id")
    catalogue = personas.select("unique_persona_id", target_item_id="item_id", found=True)
    joined = trainable.join(catalogue, on=["target_item_id", "unique_persona_id"], how="left", maintain_order="left")
    table = joined.with_columns(resolved=pl.col("found").fill_null(False)).drop("found")
    left_out = {"the target is the user's ground truth": read.table.height - trainable.height}
    return replace(read, table=table, left_out=_without_zeros(left_out))


def read_candidates(path: Path, rules: ReadRules = FAIL) -> Ingested:
    """One row per (user, rank), best first, without `[PAD]` entries and repeated items."""
    read = _read(path, CandidatesRow, schemas.CANDIDATES, _candidate_values, rules)
    unpadded = read.table.filter(pl.col("item_id") != PAD)
    kept = unpadded.unique(["user_id", "item_id"], keep="first", maintain_order=True)
    ranked = kept.with_columns(candidate_rank=pl.int_range(1, pl.len() + 1, dtype=pl.UInt32).over("user_id"))
    left_out = {
        "padding": read.table.height - unpadded.height,
        "repeated candidate": unpadded.height - kept.height,
    }
    return replace(read, table=ranked, left_out=_without_zeros(left_out))


def read_ground_truth(path: Path, rules: ReadRules = FAIL) -> Ingested:
    """One row per (user, held-out item)."""
    return _unique(_read(path, GroundTruthRow, schemas.GROUND_TRUTH, _user_item_values, rules), "user_id", "item_id")


def read_reviews(path: Path, rules: ReadRules = FAIL) -> Ingested:
    """(user, item) of every review, for the activity and popularity of the scenarios."""
    return _read(path, ItemReviewRow, schemas.GROUND_TRUTH, _user_item_values, rules)


def read_item_summaries(path: Path, rules: ReadRules = FAIL) -> Ingested:
    """Item summaries: item_id, item_summary; the first of an item counts."""
    columns: Schema = {"item_id": pl.String(), "item_summary": pl.String()}
    read = _read(path, ItemSummaryRow, columns, lambda line: [(line.item(), line.item_summary)], rules)
    return _unique(read, "item_id")


def read_aspects(path: Path, schema: SchemaName, rules: ReadRules = FAIL) -> Ingested:
    """Aspects by review: user_id, item_id and the aspect columns; the first review of a user and item counts."""
    keys = aspect_columns(schema)
    columns: Schema = {name: pl.String() for name in ("user_id", "item_id", *keys)}
    read = _read(path, ItemAspectsRow, columns, lambda line: _aspect_values(line, keys), rules)
    return _unique(read, "user_id", "item_id")


def write_quarantine(bad_lines: Sequence[BadLine], path: Path) -> None:
    """Write bad lines, verbatim, with file, line and reason; without any, the file goes. Replaced in one step.

    Bytes that are no UTF-8 are kept in `content` as lone surrogates (Python's surrogateescape).
    """
    if not bad_lines:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", encoding="ascii") as file:
        for line in bad_lines:
            content = line.content.decode("utf-8", "surrogateescape").rstrip("\n")
            reason = line.reason.lstrip(":, ")
            file.write(json.dumps({"file": str(line.path), "line": line.line, "reason": reason, "content": content}))
            file.write("\n")
    temporary.replace(path)


def _read(
    path: Path,
    row_type: type[RowT],
    schema: Schema,
    values_of: Callable[[RowT], Iterable[Values]],
    rules: ReadRules,
) -> Ingested:
    """Turn each line into its rows; a line is kept with all of them or set aside whole."""
    frames, rows = [], list[Values]()
    bad_lines: list[BadLine] = []
    num_lines = 0
    for line, row in read_rows(path, row_type, rules):
        num_lines += 1
        if isinstance(row, BadLine):
            bad_lines.append(row)
            continue
        try:
            rows += list(values_of(row))
        except RowError as error:
            bad_lines.append(line.bad(error))
        if len(rows) >= CHUNK_ROWS:
            frames.append(_frame(rows, schema))
            rows = []
    check_share(path, bad_lines, num_lines, rules)
    table = pl.concat([*frames, _frame(rows, schema)])
    return Ingested(table, read=table.height + len(bad_lines), bad_lines=bad_lines)


def _frame(rows: list[Values], schema: Schema) -> pl.DataFrame:
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    return pl.DataFrame(dict(zip(schema, columns, strict=True)), schema=schema)


def _persona_values(line: ItemPersonasRow) -> Iterator[Values]:
    item_id = line.item()
    for i, persona in enumerate(line.personas):
        full_id = f"{item_id}_{persona.ID}"
        if persona.unique_persona_id not in (None, full_id):
            rule = f"expected {full_id!r}, got {persona.unique_persona_id!r}"
            raise RowError(f"personas[{i}].unique_persona_id", rule)
        texts = (persona.Name, persona.Description, persona.Preference_Rationale, persona.Item_Summary)
        yield item_id, persona.ID, full_id, *texts


def _interaction_values(line: HistoryRow, keys: tuple[str, ...]) -> Iterator[Values]:
    for i, review in enumerate(line.reviews):
        try:
            yield _interaction(line.user_id, review, keys)
        except RowError as error:
            raise error.within(f"reviews[{i}]") from None


def _interaction(user_id: str, review: ReviewRow, keys: tuple[str, ...]) -> Values:
    if review.user_id is not None and review.user_id != user_id:
        raise RowError("user_id", f"expected the user of the line, {user_id!r}, got {review.user_id!r}")
    if not isfinite(review.rating):
        raise RowError("rating", f"expected a finite number, got {review.rating}")
    extracted = aspects_of(review.extracted)
    time = microseconds(review.timestamp)
    # The position is known once all reviews are sorted.
    return user_id, 0, review.item(), review.rating, time, review.summary, *map(extracted.get, keys)


def _selection_values(line: SelectionsRow) -> Iterator[Values]:
    for one in line.selections():
        full_id = _full_persona_id(one.target_item_id, one.selected_persona_id)
        texts = (one.selected_persona_name, one.selection_reasoning)
        yield line.user_id, one.target_item_id, full_id, *texts, None  # resolved against the personas later


def _candidate_values(line: CandidatesRow) -> Iterator[Values]:
    for i, candidate in enumerate(line.results):
        try:
            if not isfinite(candidate.score):
                raise RowError("score", f"expected a finite number, got {candidate.score}")
            yield line.user_id, i + 1, candidate.item(), candidate.score
        except RowError as error:
            raise error.within(f"results[{i}]") from None


def _user_item_values(line: GroundTruthRow | ItemReviewRow) -> Iterator[Values]:
    yield line.user_id, line.item()


def _aspect_values(line: ItemAspectsRow, keys: tuple[str, ...]) -> Iterator[Values]:
    for i, review in enumerate(line.reviews_with_aspects()):
        extracted = aspects_of(review.extracted_aspects, f"aspects[{i}].extracted_aspects")
        yield review.user_id, review.item_id or line.item(), *(extracted.get(key) for key in keys)


def _unique(read: Ingested, *key: str) -> Ingested:
    kept = read.table.unique(key, keep="first", maintain_order=True)
    return replace(read, table=kept, left_out=_without_zeros({"repeated": read.table.height - kept.height}))


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
