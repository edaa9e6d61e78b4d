"""Caches in the layout of the public scripts (PERSONA4REC): read as ours, and ours written as theirs.

An interaction cache holds `interaction_embeds.fp16.mmap` (raw fp16 rows), `uids.txt` (the user of each row),
`index.json` (user -> ids of the rows), `rows.jsonl` (user and id of each row) and `cache_meta.json`; a user's rows
run from the newest interaction to the oldest. A persona cache holds `persona_embeds.fp16.mmap`, `uids.txt` (the
persona of each row), `business_id_to_uids.json` (item -> personas) and `cache_meta.json`.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl

from personarank_dagster.core import schemas
from personarank_dagster.core.errors import InputError, StorageError, reason_of
from personarank_dagster.core.profiles import IntArray
from personarank_dagster.ranking.ranker import VectorTable
from personarank_dagster.vectors.embeddings import CacheTable, MadeWith
from personarank_dagster.vectors.matrices import Float16Array, row_parts

INTERACTION_MATRIX, PERSONA_MATRIX = "interaction_embeds.fp16.mmap", "persona_embeds.fp16.mmap"
ROW_IDS, USERS, ROWS, ITEMS, META = (
    "uids.txt",
    "index.json",
    "rows.jsonl",
    "business_id_to_uids.json",
    "cache_meta.json",
)

FILES = {
    "ext_interaction_cache": (INTERACTION_MATRIX, ROW_IDS, USERS, META),
    "ext_persona_cache": (PERSONA_MATRIX, ROW_IDS, ITEMS, META),
}


class ExternalMeta(msgspec.Struct, frozen=True):
    """What is read of `cache_meta.json`."""

    model: str
    dim: int
    normalized: bool = False
    mode: str = ""
    ablation_fields: list[str] = []


def read_external_interactions(folder: Path, liked: pl.DataFrame) -> tuple[CacheTable, dict[str, Any]]:
    """The cache of these liked interactions; of each user's rows, the first belongs to the newest.

    Raises InputError if the files disagree in counts or dimension, if a vector is not finite or not of unit length,
    or if a user has another number of rows than of liked interactions. Users that the cache does not know are left
    out, and counted.
    """
    meta, users = _meta(folder), _lines(folder / ROW_IDS)
    matrix = _matrix(folder / INTERACTION_MATRIX, len(users), meta)
    _check_counts(folder / USERS, pl.Series(users))
    rows = pl.DataFrame({"user_id": users}, schema={"user_id": pl.String}).with_row_index("vector_row")
    placed = rows.with_columns(age=pl.int_range(pl.len(), dtype=pl.UInt32).over("user_id"))
    counts = (
        liked.group_by("user_id")
        .agg(liked=pl.len())
        .join(rows.group_by("user_id").agg(cached=pl.len()), on="user_id", how="inner")
    )
    if wrong := counts.filter(pl.col("liked") != pl.col("cached")).sort("user_id").rows():
        user, expected, got = wrong[0]
        raise InputError(
            f"{folder / ROW_IDS}: user {user} must have {expected} rows, one for each interaction that is liked, got "
            f"{got}; {len(wrong)} users differ; was the cache made of other histories, or with another min_rating?"
        )
    index = liked.join(placed, on=["user_id", "age"], how="inner", maintain_order="left")
    return _table(folder, meta, matrix, index, schemas.INTERACTION_INDEX, liked.height - index.height)


def read_external_personas(folder: Path, personas: pl.DataFrame) -> tuple[CacheTable, dict[str, Any]]:
    """The cache of these personas. Raises InputError as above; personas that it does not know are left out."""
    meta, ids = _meta(folder), pl.Series(_lines(folder / ROW_IDS), dtype=pl.String)
    matrix = _matrix(folder / PERSONA_MATRIX, len(ids), meta)
    if repeated := len(ids) - ids.n_unique():
        raise InputError(f"{folder / ROW_IDS}: personas must be unique, got {repeated} repeated")
    of_items = sorted(uid for uids in _json(folder / ITEMS, dict[str, list[str]]).values() for uid in uids)
    if of_items != sorted(ids):
        raise InputError(f"{folder / ITEMS}: must hold the {len(ids)} personas of {ROW_IDS}, got {len(of_items)}")
    rows = pl.DataFrame({"unique_persona_id": ids}).with_row_index("vector_row")
    index = personas.join(rows, on="unique_persona_id", how="inner", maintain_order="left")
    return _table(folder, meta, matrix, index, schemas.PERSONA_INDEX, personas.height - index.height)


def check_one_external_encoder(interactions: Path, personas: Path) -> None:
    """Raise InputError if the two caches say that they are by different models, or differ in dimension."""
    ours, theirs = _meta(interactions), _meta(personas)
    if (ours.model, ours.dim) != (theirs.model, theirs.dim):
        raise InputError(
            f"{personas / META}: both caches must be by one encoder, got {theirs.model} with {theirs.dim} dimensions "
            f"here and {ours.model} with {ours.dim} in {interactions}"
        )


def write_external_interactions(folder: Path, cache: VectorTable, made_with: MadeWith) -> None:
    """Write a cache of interactions in the layout of the public scripts, users by name, newest first."""
    ordered = cache.index.sort("user_id", "age").with_columns(
        review_uid=pl.struct("user_id", "item_id", "timestamp", "rating").hash(seed=0).cast(pl.String)
    )
    _write_matrix(folder / INTERACTION_MATRIX, cache, ordered)
    _write_lines(folder / ROW_IDS, ordered["user_id"])
    by_user = ordered.group_by("user_id", maintain_order=True).agg("review_uid")
    _write_json(folder / USERS, dict(by_user.iter_rows()))
    lines = ordered.select("user_id", "review_uid").iter_rows(named=True)
    _write_lines(folder / ROWS, (json.dumps(line) for line in lines))
    _write_json(folder / META, _meta_of(made_with) | {"mode": made_with.mode})


def write_external_personas(folder: Path, cache: VectorTable, made_with: MadeWith) -> None:
    """Write a cache of personas in the layout of the public scripts."""
    _write_matrix(folder / PERSONA_MATRIX, cache, cache.index)
    _write_lines(folder / ROW_IDS, cache.index["unique_persona_id"])
    by_item = cache.index.group_by("item_id", maintain_order=True).agg("unique_persona_id")
    _write_json(folder / ITEMS, dict(by_item.iter_rows()))
    names = {"N": "Name", "D": "Description", "I": "item_summary", "R": "Preference_Rationale"}
    fields = [names[field] for field in made_with.fields.split(",") if field]
    _write_json(folder / META, _meta_of(made_with) | {"ablation_fields": fields})


def _table(
    folder: Path, meta: ExternalMeta, matrix: Float16Array, index: pl.DataFrame, schema: schemas.Schema, left_out: int
) -> tuple[CacheTable, dict[str, Any]]:
    """The index and the rows of the matrix that it uses, in its order."""
    if index.is_empty():
        raise InputError(
            f"{folder / ROW_IDS}: knows none of this dataset's rows; is it the cache of another dataset?"
        )
    vectors = matrix[index["vector_row"].to_numpy()]
    made_with = MadeWith(
        encoder=f"external {meta.model}",
        model=meta.model,
        dimension=meta.dim,
        max_len=0,
        template_version="external",
        mode="external",
        fields=",".join(meta.ablation_fields),
        truncated_share=0.0,
    )
    numbered = index.drop("vector_row").with_row_index("vector_row").select(schema.keys())
    return CacheTable(vectors, numbered, made_with), {"external_rows": len(matrix), "left_out": left_out}


def _matrix(path: Path, rows: int, meta: ExternalMeta) -> Float16Array:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    if not rows or size != rows * meta.dim * 2:
        raise InputError(
            f"{path}: must have {rows} rows, the lines of {ROW_IDS}, of {meta.dim} fp16 numbers, the dim of {META}: "
            f"{rows * meta.dim * 2} bytes; got {size}"
        )
    matrix = np.memmap(path, mode="r", dtype=np.float16, shape=(rows, meta.dim))
    for part in row_parts(rows):
        lengths = np.linalg.norm(matrix[part].astype(np.float32), axis=1)
        wrong: IntArray = np.flatnonzero(~(np.abs(lengths - 1) <= 2e-3))
        if len(wrong):
            row = int(wrong[0])
            raise InputError(f"{path}: vectors must have length 1, got {lengths[row]:.4g} in row {part.start + row}")
    return matrix


def _check_counts(path: Path, users: pl.Series) -> None:
    listed = {user: len(rows) for user, rows in _json(path, dict[str, list[str]]).items()}
    found = dict(users.value_counts(name="rows").iter_rows())
    if differing := sorted(user for user in listed.keys() | found.keys() if listed.get(user) != found.get(user)):
        user = differing[0]
        raise InputError(
            f"{path}: user {user} must have the {found.get(user, 0)} rows of {ROW_IDS}, got {listed.get(user, 0)}"
        )


def _meta(folder: Path) -> ExternalMeta:
    meta: ExternalMeta = _json(folder / META, ExternalMeta)
    if not meta.normalized:
        raise InputError(f"{folder / META}: normalized must be true, got false; profiles need vectors of unit length")
    return meta


def _json(path: Path, kind: Any) -> Any:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError) as error:
        raise InputError(f"{path}: cannot be read as a file of an external cache: {reason_of(error)}") from error


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a file of an external cache: {reason_of(error)}") from error


def _meta_of(made_with: MadeWith) -> dict[str, Any]:
    return {
        "model": made_with.encoder,
        "base_model": made_with.model,
        "dim": made_with.dimension,
        "normalized": True,
        "template_version": made_with.template_version,
        "max_len": made_with.max_len,
    }


def _write_matrix(path: Path, cache: VectorTable, ordered: pl.DataFrame) -> None:
    rows = ordered["vector_row"].to_numpy()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for part in row_parts(len(rows)):
                file.write(np.ascontiguousarray(cache.vectors[rows[part]], dtype="<f2").data)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror or error}") from error


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    with path.open("w") as file:
        file.writelines(f"{line}\n" for line in lines)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_bytes(msgspec.json.encode(content))
