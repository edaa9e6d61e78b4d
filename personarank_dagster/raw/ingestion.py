"""Raw files in, tables out: each function reads one kind of file and counts every row that it leaves out."""

import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl

from personarank_dagster.core import schemas
from personarank_dagster.core.aspects import SchemaName, aspect_columns
from personarank_dagster.core.errors import ContractError, listed_by_name
from personarank_dagster.raw import columns
from personarank_dagster.raw.bad_lines import Account, BadLine, ReadRules
from personarank_dagster.raw.columns import FileKind
from personarank_dagster.raw.external_sort import ExternalSort
from personarank_dagster.raw.readers import read_tables
from personarank_dagster.raw.repeated_personas import without_repeated_ids
from personarank_dagster.storage.scratch import ScratchFolder
from personarank_dagster.storage.tables import Table, height, write_table

FAIL = ReadRules()

PAD = "[PAD]"

# Sets aside lines that are wrong beside others.
SetAside = Callable[[pl.DataFrame, Path, Account], pl.DataFrame]


@dataclass(frozen=True)
class Ingested:
    """A table and the account of it: rows read = kept + quarantined lines + left out, by reason.

    `filled` counts values that were missing and came from another file, `merged` what came under a key that was
    there already; `bad_lines` were set aside.
    """

    table: Table
    read: int
    left_out: dict[str, int] = field(default_factory=dict)
    filled: dict[str, int] = field(default_factory=dict)
    merged: dict[str, int] = field(default_factory=dict)
    bad_lines: list[BadLine] = field(default_factory=list)

    def __post_init__(self) -> None:
        kept = height(self.table)
        if self.read != kept + len(self.bad_lines) + sum(self.left_out.values()):
            raise ContractError(
                f"rows read must be those kept, quarantined and left out, got {self.read} for {kept} kept, "
                f"{len(self.bad_lines)} quarantined, {listed_by_name(self.left_out) or 'none'} left out"
            )

    @property
    def frame(self) -> pl.DataFrame:
        """The table in memory."""
        return self.table.collect() if isinstance(self.table, pl.LazyFrame) else self.table


def read_personas(path: Path, rules: ReadRules = FAIL, *, item_summaries: pl.DataFrame | None = None) -> Ingested:
    """One row per persona, by item in file order; the full id is unique.

    A missing Item_Summary is filled from `item_summaries`.
    """
    read = _read(path, columns.PERSONAS, rules, set_aside=without_repeated_ids)
    filled = Counter[str]()
    table = _fill_summaries(read.frame, item_summaries, filled)
    return replace(read, table=table, filled=_without_zeros(filled))


def read_histories(
    path: Path,
    schema: SchemaName,
    rules: ReadRules = FAIL,
    *,
    ground_truth: pl.DataFrame | None = None,
    item_summaries: pl.DataFrame | None = None,
    aspects: pl.DataFrame | None = None,
    scratch: Path | None = None,
) -> Ingested:
    """One row per interaction, by user and time (ties in file order), without the user's ground-truth items.

    Missing summaries and aspects are filled from `item_summaries` and `aspects` where these are given. What does not
    fit in memory is sorted in a folder under `scratch`; then the table is a LazyFrame, and the folder goes with it.
    """
    interactions = ExternalSort("user_id", "timestamp", scratch)
    account = Account(path, rules)
    for table in read_tables(path, columns.histories(schema), account):
        interactions.add(table)
    account.close()
    complete = Completion(schema, ground_truth, item_summaries, aspects)
    kept = _join(map(complete, interactions.parts()), interactions.scratch)
    return histories_of(kept, complete, interactions.num_rows, account)


@dataclass(frozen=True)
class Completion:
    """Makes histories of sorted interactions, and counts what it leaves out and fills."""

    schema: SchemaName
    ground_truth: pl.DataFrame | None
    item_summaries: pl.DataFrame | None
    aspects: pl.DataFrame | None
    left_out: Counter[str] = field(default_factory=Counter)
    filled: Counter[str] = field(default_factory=Counter)

    def __call__(self, part: pl.DataFrame) -> pl.DataFrame:
        """The histories of some users, of whom all interactions are here."""
        kept = _without_ground_truth(part, self.ground_truth)
        self.left_out["the user's ground truth"] += part.height - kept.height
        kept = _fill_summaries(kept, self.item_summaries, self.filled)
        kept = _fill_aspects(kept, aspect_columns(self.schema), self.aspects, self.filled)
        position = pl.int_range(pl.len(), dtype=pl.UInt32).over("user_id")
        return kept.with_columns(position=position).select(schemas.histories(self.schema).keys())


def histories_of(kept: Table, completed: Completion, num_rows: int, account: Account) -> Ingested:
    """Histories with their account, of so many interactions that were read."""
    left_out, filled = _without_zeros(completed.left_out), _without_zeros(completed.filled)
    return Ingested(kept, num_rows + len(account.bad), left_out=left_out, filled=filled, bad_lines=account.bad)


def read_selections(
    path: Path, personas: pl.DataFrame, rules: ReadRules = FAIL, *, ground_truth: pl.DataFrame | None = None
) -> Ingested:
    """One row per selection, never of a user's ground truth; `resolved` where its target has that persona.

    A persona is given short (`P3`) or full (`<item>_P3`): whichever its target has, short before full.
    """
    read = _read(path, columns.SELECTIONS, rules)
    table = read.frame
    trainable = _without_ground_truth(table, ground_truth, item="target_item_id")
    left_out = {"the target is the user's ground truth": table.height - trainable.height}
    return replace(read, table=_resolve(trainable, personas), left_out=_without_zeros(left_out))


def _resolve(selections: pl.DataFrame, personas: pl.DataFrame) -> pl.DataFrame:
    """Selections with the full id that their target has; where it has none, the one that was most likely meant."""
    given, item = pl.col("selected_persona_id"), pl.col("target_item_id")
    known = personas.select("unique_persona_id", target_item_id="item_id")
    forms = selections.with_columns(short=pl.format("{}_{}", item, given), full=given)
    for form in ("short", "full"):
        found = known.select(
            "target_item_id", pl.col("unique_persona_id").alias(form), pl.lit(True).alias(f"is_{form}")
        )
        forms = forms.join(found, on=["target_item_id", form], how="left", maintain_order="left")
    is_short, is_full = pl.col("is_short").fill_null(False), pl.col("is_full").fill_null(False)
    likely_full = is_full | given.str.starts_with(pl.format("{}_", item))
    meant = pl.when(likely_full & ~is_short).then("full").otherwise("short")
    return forms.with_columns(unique_persona_id=meant, resolved=is_short | is_full).select(*schemas.SELECTED_PERSONAS)


def read_candidates(path: Path, rules: ReadRules = FAIL) -> Ingested:
    """One row per (user, rank), best first, without `[PAD]` entries and repeated items."""
    read = _read(path, columns.CANDIDATES, rules)
    table = read.frame
    unpadded = table.filter(pl.col("item_id") != PAD)
    kept = unpadded.unique(["user_id", "item_id"], keep="first", maintain_order=True)
    ranked = kept.with_columns(candidate_rank=pl.int_range(1, pl.len() + 1, dtype=pl.UInt32).over("user_id"))
    left_out = {"padding": table.height - unpadded.height, "repeated candidate": unpadded.height - kept.height}
    lists = table.filter(pl.col("candidate_rank") == 1)["user_id"]
    merged = {"second list of its user": len(lists) - lists.n_unique()}
    if any(merged.values()):
        # A user's rows are together, wherever the second list was.
        placed = ranked.with_row_index("row")
        ranked = placed.sort(pl.col("row").min().over("user_id"), maintain_order=True).drop("row")
    return replace(read, table=ranked, left_out=_without_zeros(left_out), merged=_without_zeros(merged))


def read_ground_truth(path: Path, rules: ReadRules = FAIL) -> Ingested:
    """One row per (user, held-out item)."""
    return _unique(_read(path, columns.GROUND_TRUTH, rules), "user_id", "item_id")


def read_reviews(path: Path, rules: ReadRules = FAIL, *, ground_truth: pl.DataFrame | None = None) -> Ingested:
    """(user, item) of every review but the held-out ones, for the activity and popularity of the scenarios."""
    return _not_held_out(_read(path, columns.REVIEWS, rules), ground_truth)


def read_item_summaries(path: Path, rules: ReadRules = FAIL) -> Ingested:
    """Item summaries: item_id, item_summary; the first of an item counts."""
    return _unique(_read(path, columns.ITEM_SUMMARIES, rules), "item_id")


def read_aspects(
    path: Path, schema: SchemaName, rules: ReadRules = FAIL, *, ground_truth: pl.DataFrame | None = None
) -> Ingested:
    """Aspects by review: user_id, item_id and the aspect columns; the first review of a user and item counts.

    Those of held-out reviews are left out.
    """
    read = _unique(_read(path, columns.review_aspects(schema), rules), "user_id", "item_id")
    return _not_held_out(read, ground_truth)


def _join(parts: Iterator[pl.DataFrame], scratch: ScratchFolder | None) -> Table:
    """All parts as one table: the only one as it is, several in a folder that goes when the table does."""
    if scratch is None:
        return next(parts)
    table = pl.scan_parquet(
        [write_table(part, scratch.path / f"part-{i:05}.parquet") for i, part in enumerate(parts)]
    )
    weakref.finalize(table, scratch.close)
    return table


def _read(path: Path, kind: FileKind, rules: ReadRules, *, set_aside: SetAside | None = None) -> Ingested:
    """All rows of a file; a line is kept with all of its rows or set aside whole."""
    account = Account(path, rules)
    table = pl.concat(read_tables(path, kind, account))
    if set_aside:
        table = set_aside(table, path, account)
    account.close()
    return Ingested(table, read=table.height + len(account.bad), bad_lines=account.bad)


def _unique(read: Ingested, *key: str) -> Ingested:
    table = read.frame
    kept = table.unique(key, keep="first", maintain_order=True)
    return replace(read, table=kept, left_out=_without_zeros({"repeated": table.height - kept.height}))


def _not_held_out(read: Ingested, ground_truth: pl.DataFrame | None) -> Ingested:
    kept = _without_ground_truth(read.frame, ground_truth)
    held_out = {"the user's ground truth": read.frame.height - kept.height}
    return replace(read, table=kept, left_out=read.left_out | _without_zeros(held_out))


def _without_ground_truth(
    table: pl.DataFrame, ground_truth: pl.DataFrame | None, item: str = "item_id"
) -> pl.DataFrame:
    if ground_truth is None:
        return table
    keys = ground_truth.select("user_id", pl.col("item_id").alias(item))
    return table.join(keys, on=["user_id", item], how="anti", maintain_order="left")


def _fill_summaries(table: pl.DataFrame, summaries: pl.DataFrame | None, filled: Counter[str]) -> pl.DataFrame:
    num_missing = table["item_summary"].null_count()
    if summaries is None or not num_missing:
        return table
    given = table.join(summaries, on="item_id", how="left", maintain_order="left", suffix="_given")
    whole = given.with_columns(pl.coalesce("item_summary", "item_summary_given")).select(table.columns)
    filled["item_summary"] += num_missing - whole["item_summary"].null_count()
    return whole


def _fill_aspects(
    table: pl.DataFrame, keys: tuple[str, ...], aspects: pl.DataFrame | None, filled: Counter[str]
) -> pl.DataFrame:
    """Fill interactions that have no aspect at all; a review with some aspects null is as its extraction left it."""
    missing = pl.all_horizontal(pl.col(key).is_null() for key in keys)
    num_missing = table.filter(missing).height
    if aspects is None or not num_missing:
        return table
    given = table.join(aspects, on=["user_id", "item_id"], how="left", maintain_order="left", suffix="_given")
    whole = given.with_columns(
        pl.when(missing).then(pl.col(f"{key}_given")).otherwise(pl.col(key)).alias(key) for key in keys
    ).select(table.columns)
    filled["aspects"] += num_missing - whole.filter(missing).height
    return whole


def _without_zeros(counts: Mapping[str, int]) -> dict[str, int]:
    return {reason: count for reason, count in counts.items() if count}
