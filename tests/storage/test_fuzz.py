"""Mutated files: every line is kept unchanged or reported at its line; nothing is lost, changed or crashes.

`make fuzz` tries 10,000 mutations; the test suite a few hundred.
"""

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from personarank_dagster.core.datasets import aspect_columns
from personarank_dagster.core.sample_data import SampleDataset
from personarank_dagster.storage import ingestion
from personarank_dagster.storage.bad_lines import ReadRules
from personarank_dagster.storage.columns import microseconds

MUTATIONS = int(os.environ.get("PERSONARANK_FUZZ", "400"))
QUARANTINE = ReadRules(on_bad_row="quarantine", max_bad_share=1.0)
LINES = [json.dumps(row).encode() for row in list(SampleDataset("amazon", 12, 1).histories())[:4]]
KEYS = aspect_columns("amazon")
NUMBERS = [0, -1, 7, 3.5, 10**30]
VALUES: list[Any] = [None, True, *NUMBERS, "", "x", "5", [], {}, [[]], {"a": None}, "\ud800", "2020-01-01"]


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
    target = rng.choice([row, *row["reviews"], *(review["extracted"] for review in row["reviews"])])
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


def expected_rows(line: bytes) -> list[tuple[Any, ...]]:
    """The rows of a good line, by Python's json alone; raises ValueError where a key is repeated."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError("repeated key")
        return dict(pairs)

    row = json.loads(line, object_pairs_hook=unique)
    rows = []
    for review in row["reviews"]:
        item = next(review[key] for key in ("item_id", "business_id", "asin", "parent_asin") if review.get(key))
        extracted = review.get("extracted") or {}
        extracted = json.loads(extracted or "{}") if isinstance(extracted, str) else extracted
        time = microseconds(review["timestamp"])
        aspects = [extracted.get(key) for key in KEYS]
        rows.append((row["user_id"], item, float(review["rating"]), time, review.get("summary"), *aspects))
    return rows


@pytest.mark.parametrize("mutate", [mutate_bytes, mutate_values])
def test_every_line_of_a_mutated_file_is_kept_unchanged_or_reported(tmp_path: Path, mutate: Any) -> None:
    kept_after_mutation = 0
    for number in range(MUTATIONS // 2):
        rng = random.Random(number)
        lines = rng.sample(LINES, len(LINES))
        victim = rng.randrange(len(lines))
        lines[victim] = mutate(rng, lines[victim])
        path = tmp_path / "h.jsonl"
        path.write_bytes(b"\n".join(lines))

        ingested = ingestion.read_histories(path, "amazon", QUARANTINE)
        bad = {line.line: line.content.rstrip(b"\n") for line in ingested.bad_lines}
        assert bad in ({}, {victim + 1: lines[victim]}), number
        kept = [line for i, line in enumerate(lines, 1) if i not in bad and line.strip()]
        expected = [row for line in kept for row in expected_rows(line)]
        table = ingested.table.drop("position").with_columns(timestamp=ingested.table["timestamp"].dt.epoch("us"))
        assert sorted(table.rows(), key=repr) == sorted(expected, key=repr), number
        kept_after_mutation += not bad
    # Neither all nor none of the mutations is harmless, or this test would say nothing.
    assert 0 < kept_after_mutation < MUTATIONS // 2
