"""What the page shows, from the published tables: metrics, users, and one user's list with what is behind it."""

import random
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

import polars as pl

from personarank_dagster.core.errors import PersonarankError, StorageError, reason_of
from personarank_dagster.service.datasets import Dataset, Datasets
from personarank_dagster.service.refusals import RefusedError
from personarank_dagster.storage.tables import TABLE

LISTS, METRICS, TRUTH = "reranked_candidates", "rerank_metrics", "ground_truth"
FOUND_USERS = 20
DEFAULT_TOP, MOST_TOP = 20, 100
# Places that count as a user's list where no held-out item says who moved.
FIRST_PLACES = 10
SHOWN_METRICS = ("metric", "k", "candidate", "reranked", "lift", "lift_low", "lift_high", "users")
PERSONA_TEXTS = ("name", "description", "preference_rationale")

Moved = dict[str, Callable[[pl.Expr], pl.Expr]]
MOVED: Moved = {"up": lambda by: by > 0, "down": lambda by: by < 0, "any": lambda by: by.is_not_null()}


class Explorer:
    """Answers of the page; each reads from disk, so they are given from threads."""

    def __init__(self, datasets: Datasets) -> None:
        self._datasets = datasets

    def datasets(self, query: dict[str, str]) -> Any:
        """All datasets, with the metrics of all users."""
        return {"datasets": [_dataset(one) for one in self._datasets.by_name.values()]}

    def users(self, query: dict[str, str]) -> Any:
        """Ids that begin with `q`."""
        lists = table(self._dataset(query), LISTS)
        first = lists.filter(pl.col("rank") == 1, pl.col("user_id").str.starts_with(query.get("q", "")))
        return {"users": first.select("user_id").head(FOUND_USERS).collect()["user_id"].to_list()}

    def random_user(self, query: dict[str, str]) -> Any:
        """Somebody whose held-out item, or whose first places without one, moved `up`, `down` or `any` way."""
        moved = query.get("moved", "any")
        if moved not in MOVED:
            raise RefusedError(400, f"moved must be one of {', '.join(MOVED)}, got {moved[:20]!r}")
        movement = _movement(self._dataset(query)).filter(MOVED[moved](pl.col("by")))
        users = movement.select("user_id").collect()["user_id"]
        if users.is_empty():
            raise RefusedError(404, f"nobody moved {moved}")
        return {"user": users[random.randrange(len(users))]}

    def list_of(self, query: dict[str, str]) -> Any:
        """A published list, with the persona and the interactions behind each place."""
        dataset, user = self._dataset(query), query.get("user", "")
        own = table(dataset, LISTS).filter(pl.col("user_id") == user).collect(engine="streaming").sort("rank")
        if own.is_empty():
            raise RefusedError(404, f"{dataset.name}: user {user[:100]!r} has no published list")
        shown = own.filter((pl.col("rank") <= top(query)) | (pl.col("candidate_rank") <= top(query)))
        return {
            "user": user,
            "blend": own["alpha"][0] if "alpha" in own.columns else None,
            "candidates": own.height,
            "places": _places(dataset, shown, user),
        }

    def _dataset(self, query: dict[str, str]) -> Dataset:
        return self._datasets.named(query.get("dataset"))


def top(query: dict[str, str]) -> int:
    """Places to show."""
    given = query.get("top", str(DEFAULT_TOP))
    if not (given.isascii() and given.isdigit() and 1 <= int(given[:9]) <= MOST_TOP):
        raise RefusedError(400, f"top must be a whole number from 1 to {MOST_TOP}, got {given[:20]!r}")
    return int(given)


def parse_query(query_string: bytes) -> dict[str, str]:
    """Fields of an address; the last of each name counts. Raises RefusedError."""
    try:
        return dict(
            parse_qsl(query_string.decode("ascii"), keep_blank_values=True, max_num_fields=10, errors="strict")
        )
    except ValueError as error:
        raise RefusedError(400, "the query must be UTF-8, percent-encoded, with at most 10 fields") from error


def table(dataset: Dataset, asset: str) -> pl.LazyFrame:
    """A published table. Raises RefusedError if it is not there."""
    try:
        return pl.scan_parquet(dataset.published.store(asset).current().directory / TABLE)
    except (StorageError, OSError) as error:
        raise RefusedError(404, f"{dataset.name}: {asset} is not published: {reason_of(error)}") from error


def _dataset(dataset: Dataset) -> dict[str, Any]:
    told: dict[str, Any] = {"name": dataset.name, "version": dataset.version, "problem": dataset.problem}
    try:
        rows = table(dataset, METRICS).filter(pl.col("scenario") == "all").collect()
    except PersonarankError:
        return told | {"metrics": []}
    return told | {"metrics": rows.select([name for name in SHOWN_METRICS if name in rows.columns]).to_dicts()}


def _movement(dataset: Dataset) -> pl.LazyFrame:
    """Places that each user gained."""
    lists, by = table(dataset, LISTS), pl.col("candidate_rank").cast(pl.Int64) - pl.col("rank")
    try:
        truth = table(dataset, TRUTH)
    except RefusedError:
        far = lists.filter(pl.col("rank") <= FIRST_PLACES)
        return far.group_by("user_id", maintain_order=True).agg(by=by.sum())
    held_out = lists.join(truth, on=["user_id", "item_id"], how="semi", maintain_order="left")
    return held_out.group_by("user_id", maintain_order=True).agg(by=by.first())


def _places(dataset: Dataset, shown: pl.DataFrame, user: str) -> list[dict[str, Any]]:
    items, personas = _persona_rows(dataset, shown)
    behind = _interactions(dataset, user)
    held_out = _held_out(dataset, user)
    return [
        place
        | {
            "summary": items.get(place["item_id"]),
            "held_out": place["item_id"] in held_out,
            "persona": personas.get(place["unique_persona_id"]),
            "interactions": [_with_share(one, place, behind) for one in place["interactions"] or []],
        }
        for place in shown.drop("user_id", "alpha", strict=False).to_dicts()
    ]


def _persona_rows(dataset: Dataset, shown: pl.DataFrame) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """Summaries by item, and texts by persona."""
    rows = table(dataset, "personas").filter(pl.col("item_id").is_in(shown["item_id"].to_list())).collect()
    items = dict(rows.select("item_id", "item_summary").rows())
    personas = {row["unique_persona_id"]: {name: row[name] for name in PERSONA_TEXTS} for row in rows.to_dicts()}
    return items, personas


def _interactions(dataset: Dataset, user: str) -> dict[str, dict[str, Any]]:
    """Rating, day and item summary of a user's interactions by item; of a repeated one, the last."""
    rows = table(dataset, "histories").filter(pl.col("user_id") == user)
    told = rows.select("item_id", "rating", "item_summary", day=pl.col("timestamp").dt.strftime("%Y-%m-%d"))
    return {row.pop("item_id"): row for row in told.collect(engine="streaming").to_dicts()}


def _with_share(one: dict[str, Any], place: dict[str, Any], behind: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """An interaction with its share of the persona score, which all contributions of the profile sum to."""
    whole = place["persona_score"]
    return one | behind.get(one["item_id"], {}) | {"share": one["contribution"] / whole if whole else None}


def _held_out(dataset: Dataset, user: str) -> set[str]:
    try:
        return {*table(dataset, TRUTH).filter(pl.col("user_id") == user).collect()["item_id"]}
    except RefusedError:
        return set()
