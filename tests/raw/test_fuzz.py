"""Mutated files: every line is kept unchanged or reported at its line; nothing is lost, changed or crashes.

`make fuzz` tries 10,000 mutations of each kind of file; the test suite a hundred or two.
"""

import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from personarank_dagster.core.aspects import aspect_columns
from personarank_dagster.raw import blocks, columns, readers
from personarank_dagster.raw.bad_lines import Account, ReadRules
from personarank_dagster.raw.columns import FileKind
from personarank_dagster.raw.times import microseconds
from personarank_dagster.sample.generator import SampleDataset

MUTATIONS = int(os.environ.get("PERSONARANK_FUZZ", "160"))
QUARANTINE = ReadRules(on_bad_row="quarantine", max_bad_share=1.0)
AMAZON, YELP = SampleDataset("amazon", 12, 1), SampleDataset("yelp", 12, 1)
NUMBERS = [0, -1, 7, 3.5, 10**30]
VALUES: list[Any] = [None, True, *NUMBERS, "", "x", "5", [], {}, [[]], {"a": None}, "\ud800", "2020-01-01"]
Row = dict[str, Any]


def item_id(row: Row) -> str:
    return next(row[key] for key in ("item_id", "business_id", "asin", "parent_asin") if row.get(key))


def aspects(extracted: Any, schema: Any) -> list[Any]:
    found = json.loads(extracted or "{}") if isinstance(extracted, str) else extracted or {}
    return [found.get(key) for key in aspect_columns(schema)]


def interactions(row: Row, schema: Any = "amazon") -> Iterator[tuple[Any, ...]]:
    for review in row["reviews"]:
        fields = (row["user_id"], item_id(review), float(review["rating"]), microseconds(review["timestamp"]))
        yield (*fields, review.get("summary"), *aspects(review.get("extracted"), schema))


def personas(row: Row) -> Iterator[tuple[Any, ...]]:
    for one in row["personas"]:
        texts = (one["Name"], one["Description"], one["Preference_Rationale"], one.get("Item_Summary"))
        yield (item_id(row), one["ID"], f"{item_id(row)}_{one['ID']}", *texts)


def selections(row: Row) -> Iterator[tuple[Any, ...]]:
    grouped = row.get("persona_selections")
    for one in [row] if grouped is None else grouped:
        item, persona = one["target_item_id"], one["selected_persona_id"]
        texts = (one.get("selected_persona_name"), one.get("selection_reasoning"))
        yield (row["user_id"], item, persona, *texts)


def candidates(row: Row) -> Iterator[tuple[Any, ...]]:
    for rank, one in enumerate(row["results"], 1):
        yield (row["user_id"], rank, item_id(one), float(one["score"]))


def user_item(row: Row) -> Iterator[tuple[Any, ...]]:
    yield (row["user_id"], item_id(row))


def summaries(row: Row) -> Iterator[tuple[Any, ...]]:
    yield (item_id(row), row.get("item_summary"))


def review_aspects(row: Row) -> Iterator[tuple[Any, ...]]:
    for one in [row] if row.get("aspects") is None else row["aspects"]:
        own = next((one[key] for key in ("item_id", "business_id", "asin", "parent_asin") if one.get(key)), None)
        yield (one["user_id"], own or item_id(row), *aspects(one.get("extracted_aspects"), "yelp"))


def short(row: Row, key: str, count: int) -> Row:
    return {**row, key: row[key][:count]}


Case = tuple[FileKind, list[Row], Callable[[Row], Iterator[tuple[Any, ...]]]]
CASES: dict[str, Case] = {
    "loo_history": (columns.histories("amazon"), list(AMAZON.histories())[:4], interactions),
    "persona": (columns.PERSONAS, list(AMAZON.personas())[:4], personas),
    "selected": (columns.SELECTIONS, list(AMAZON.selections())[:4], selections),
    "candidates": (columns.CANDIDATES, [short(row, "results", 4) for row in list(YELP.candidates())[:4]], candidates),
    "gt": (columns.GROUND_TRUTH, list(YELP.ground_truths())[:4], user_item),
    "reviews": (columns.REVIEWS, list(AMAZON.reviews())[:4], user_item),
    "item_summary": (columns.ITEM_SUMMARIES, list(YELP.summaries())[:4], summaries),
    "aspects": (
        columns.review_aspects("yelp"),
        [short(row, "aspects", 2) for row in list(YELP.grouped())[:4]],
        review_aspects,
    ),
}


def mutate_bytes(rng: random.Random, line: bytes) -> bytes:
    """Replace, insert or delete a few bytes, or cut the line."""
    changed = bytearray(line)
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(changed) + 1)
        byte = rng.choice(b'"\\{}[]:,0159eE.-+ntf \t\r\x00\x80\xc3\xff')
        match rng.randrange(4):
            case 0:
                changed[place : place + 1] = bytes([byte])
            case 1:
                changed.insert(place, byte)
            case 2:
                del changed[place : place + rng.randint(1, 5)]
            case 3:
                del changed[place : len(changed) if rng.random() < 0.2 else place + 1]
    return bytes(changed)


def mutate_values(rng: random.Random, line: bytes) -> bytes:
    """Change, remove, add or repeat a key somewhere, or put other things around it."""
    row = json.loads(line)
    target = rng.choice(list(objects(row)))
    key = rng.choice(list(target))
    match rng.randrange(4):
        case 0:
            target[key] = rng.choice(VALUES)
        case 1:
            del target[key]
        case 2:
            target[rng.choice(["asin", "business_id", "new", "item_id", "user_id"])] = rng.choice(VALUES)
        case 3:
            text, again = json.dumps(row), json.dumps({key: rng.choice(VALUES)})[1:-1]
            return text.replace(f'"{key}":', f'{again}{rng.choice(["", " "])}, "{key}":', 1).encode()
    return json.dumps(row).encode()


def objects(value: Any) -> Iterator[Row]:
    """All objects with keys inside a value, itself included."""
    if isinstance(value, dict):
        if value:
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from objects(inner)


def unique(pairs: list[tuple[str, Any]]) -> Row:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("repeated key")
    return dict(pairs)


@pytest.mark.parametrize("mutate", [mutate_bytes, mutate_values])
@pytest.mark.parametrize("name", CASES)
def test_every_line_of_a_mutated_file_is_kept_unchanged_or_reported(
    tmp_path: Path, name: str, mutate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, rows, rows_of = CASES[name]
    good = [json.dumps(row).encode() for row in rows]
    path = tmp_path / "file.jsonl"
    kept_after_mutation = 0
    for number in range(MUTATIONS // 2):
        rng = random.Random(number)
        # Lines lie anywhere in the blocks, and tables end anywhere.
        monkeypatch.setattr(blocks, "BLOCK_BYTES", rng.choice([1, 100, 1_000, 100_000]))
        monkeypatch.setattr(readers, "TABLE_BYTES", rng.choice([1, 100_000]))
        lines = rng.sample(good, len(good))
        victim = rng.randrange(len(lines))
        lines[victim] = mutate(rng, lines[victim])
        path.write_bytes(rng.choice([b"\n", b"\r\n", b"\n\n"]).join(lines))

        account = Account(path, QUARANTINE)
        table = pl.concat(readers.read_tables(path, kind, account))
        separator = path.read_bytes().count(b"\n") // (len(lines) - 1)
        bad = {(line.line - 1) // separator: line.content.rstrip(b"\r") for line in account.bad}
        assert bad in ({}, {victim: lines[victim].rstrip(b"\r")}), number
        kept = [line for i, line in enumerate(lines) if i not in bad and line.strip()]
        expected = [row for line in kept for row in rows_of(json.loads(line, object_pairs_hook=unique))]
        times = [pl.col(column).dt.epoch("us") for column in table.columns if column == "timestamp"]
        assert table.with_columns(*times).rows() == expected, number
        assert account.num_lines == len(kept) + len(bad), number
        kept_after_mutation += not bad
    # Neither all nor none of the mutations is harmless, or this test would say nothing.
    assert 0 < kept_after_mutation < MUTATIONS // 2
