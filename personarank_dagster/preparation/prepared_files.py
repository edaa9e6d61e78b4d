"""Prepared tables as files under their public names, in the form that the graph reads."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import polars as pl

from personarank_dagster.core.aspects import SchemaName, aspect_columns
from personarank_dagster.preparation.pipeline import Prepared
from personarank_dagster.preparation.tables import interactions_of

# Their public names, by the key of data.yaml that they stand for.
PREPARED_FILES = {
    "item_summary": "2_summary.jsonl",
    "persona": "3.5_persona_with_summary.jsonl",
    "loo_history": "3.5_history_loo.jsonl",
    "selected": "4_selected_personas.jsonl",
    "gt": "gt.jsonl",
    "candidates": "candidate.jsonl",
}


def write_prepared(
    prepared: Prepared, folder: Path, schema: SchemaName, *, candidates: pl.DataFrame | None = None
) -> list[Path]:
    """Write all files, each in one step; one that would be the same stays as it is."""
    lines = {
        "item_summary": prepared.summaries.iter_rows(named=True),
        "persona": _personas(prepared.personas),
        "loo_history": _histories(prepared, schema),
        "selected": _selections(prepared.selections),
        "gt": _ground_truth(prepared).iter_rows(named=True),
    }
    if candidates is not None:
        lines["candidates"] = _candidates(candidates)
    folder.mkdir(parents=True, exist_ok=True)
    return [_write(folder / PREPARED_FILES[key], rows) for key, rows in lines.items()]


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    if path.exists() and path.read_bytes() == content:
        return path
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(content)
    return temporary.replace(path)


def _personas(table: pl.DataFrame) -> Iterator[dict[str, Any]]:
    for group in table.partition_by("item_id", maintain_order=True):
        yield {"item_id": group["item_id"][0], "personas": [_persona(row) for row in group.iter_rows(named=True)]}


def _persona(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "ID": row["persona_id"],
        "Name": row["name"],
        "Description": row["description"],
        "Preference_Rationale": row["preference_rationale"],
        "Item_Summary": row["item_summary"],
        "unique_persona_id": row["unique_persona_id"],
        "Evidence": row["review_ids"],
    }


def _histories(prepared: Prepared, schema: SchemaName) -> Iterator[dict[str, Any]]:
    of_users = pl.col("user_id").is_in(list(prepared.scope.users))
    whole = interactions_of(prepared.split, prepared.summaries, prepared.aspects, schema).filter(of_users)
    for group in whole.partition_by("user_id", maintain_order=True):
        reviews = [_interaction(row, schema) for row in group.iter_rows(named=True)]
        yield {"user_id": group["user_id"][0], "reviews": reviews}


def _interaction(row: dict[str, Any], schema: SchemaName) -> dict[str, Any]:
    return {
        "item_id": row["item_id"],
        "rating": row["rating"],
        "timestamp": row["timestamp"].isoformat(),
        "summary": row["item_summary"],
        "extracted": {key: row[key] for key in aspect_columns(schema)},
    }


def _selections(table: pl.DataFrame) -> Iterator[dict[str, Any]]:
    for row in table.iter_rows(named=True):
        yield {
            "user_id": row["user_id"],
            "target_item_id": row["target_item_id"],
            "selected_persona_id": row["unique_persona_id"],
            "selected_persona_name": row["selected_persona_name"],
            "selection_reasoning": row["selection_reasoning"],
        }


def _ground_truth(prepared: Prepared) -> pl.DataFrame:
    return prepared.split.ground_truth.filter(pl.col("user_id").is_in(list(prepared.scope.users)))


def _candidates(table: pl.DataFrame) -> Iterator[dict[str, Any]]:
    for group in table.partition_by("user_id", maintain_order=True):
        results = [
            {"item_id": item, "score": score} for item, score in group.select("item_id", "candidate_score").rows()
        ]
        yield {"user_id": group["user_id"][0], "results": results}
