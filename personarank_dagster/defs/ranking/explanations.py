"""Why a user's reranked list is as it is: places, personas, and the interactions that speak for them."""

import difflib
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from personarank_dagster.core import schemas
from personarank_dagster.core.errors import StorageError, UsageError
from personarank_dagster.defs.platform.declarations import declared
from personarank_dagster.defs.platform.resources import ProjectResource
from personarank_dagster.defs.ranking.examples import example_users as users_by_movement
from personarank_dagster.ranking.ranker import min_spread

# What personas add to a score, where the blend is learned: all but the two of the retriever, and popularity.
PERSONA_SIGNALS = schemas.SIGNAL_NAMES[2:-1]

# Ids that are compared with an unknown one.
COMPARED_IDS, CLOSE_MATCHES = 20_000, 3


@dataclass(frozen=True)
class Explanation:
    """A user's list, best first: one dict per place, with the persona's texts and the interactions behind it.

    The note says why the candidates kept their order, where they did. `alpha` is None where the blend is learned: a
    place then has `signals`, what each of them adds to its score, which they sum to.
    """

    user_id: str
    alpha: float | None
    places: list[dict[str, Any]]
    note: str | None


def explain(project: ProjectResource, partition: str, user_id: str, *, top: int) -> Explanation:
    """The first places of a user's current list. Raises UsageError for an unknown user, naming similar ids."""
    lists = _table(project, "reranked_candidates", partition)
    own = lists.filter(pl.col("user_id") == user_id).collect(engine="streaming")
    if own.is_empty():
        raise UsageError(_unknown(user_id, partition, lists))
    shown = own.sort("rank").head(top)
    personas = _table(project, "personas", partition)
    texts = personas.select("unique_persona_id", persona="name", rationale="preference_rationale")
    items = personas.group_by("item_id").agg(item_summary=pl.col("item_summary").first())
    learned = "signals" in shown.columns
    told = (
        shown.lazy()
        .join(texts, on="unique_persona_id", how="left", maintain_order="left")
        .join(items, on="item_id", how="left", maintain_order="left")
        .select(
            "rank", "candidate_rank", "item_id", "item_summary", "score", "candidate_score", "persona_score",
            "unique_persona_id", "persona", "rationale", "interactions", *(["signals"] if learned else []),
        )
        .collect()
        .to_dicts()
    )  # fmt: skip
    behind, evidence = _interactions(project, partition, user_id), _evidence(project, partition)
    for place in told:
        place["evidence"] = evidence.get(place["unique_persona_id"], [])
        place["interactions"] = [part | behind.get(part["item_id"], {}) for part in place["interactions"]]
    return Explanation(user_id, own["alpha"][0], told, _note(own))


def example_users(project: ProjectResource, partition: str) -> dict[str, str]:
    """A user whose ground truth moved up most and one whose moved down most, each with what it is an example of.

    Fewer where none moved so; where there is no ground truth, or none moved, those whose lists moved most and least.
    """
    lists = _table(project, "reranked_candidates", partition)
    truth = project.outputs(partition).versions("ground_truth").find_current()
    found = _moved_users(lists, _table(project, "ground_truth", partition)) if truth else {}
    return found or {user: f"an example: {what}" for what, user in users_by_movement(lists).items()}


def listed_users(project: ProjectResource, partition: str) -> list[str]:
    """Users with a list."""
    lists = _table(project, "reranked_candidates", partition)
    return lists.filter(pl.col("rank") == 1).select("user_id").collect()["user_id"].to_list()


def _moved_users(lists: pl.LazyFrame, truth: pl.LazyFrame) -> dict[str, str]:
    hits = lists.join(truth.unique(), on=["user_id", "item_id"], how="semi").sort("user_id", "rank")
    first = hits.group_by("user_id", maintain_order=True).first().collect(engine="streaming")
    places = first.select("user_id", "item_id", "candidate_rank", "rank").rows()
    told = {}
    for way, sign in (("up", 1), ("down", -1)):
        moved = [place for place in places if sign * (int(place[2]) - int(place[3])) > 0]
        if moved:
            user, item, old, new = max(moved, key=lambda place: sign * (int(place[2]) - int(place[3])))
            told[user] = f"the held-out {item} moved {way} from {old} to {new}"
    return told


def _evidence(project: ProjectResource, partition: str) -> dict[str, list[str]]:
    """Ids of the reviews that each persona rests on; known where a model wrote the personas of raw reviews."""
    if not declared("item_personas").is_made(project.dataset(partition)):
        return {}
    rows = _table(project, "item_personas", partition).select("unique_persona_id", "review_ids")
    return dict(rows.collect().iter_rows())


def _note(places: pl.DataFrame) -> str | None:
    scores, learned = places["persona_score"].drop_nulls(), "signals" in places.columns
    order = "the retriever and popularity alone decide" if learned else "the candidates keep their order"
    if scores.is_empty():
        return f"no persona scores (no profile, or no item with personas): {order}"
    if learned:
        parts = places.select(pl.col("signals").struct.field(*PERSONA_SIGNALS).abs().max()).max_horizontal().item()
        return f"no persona adds anything to a score: {order}" if parts < min_spread() else None
    if float(np.ptp(scores.to_numpy())) < min_spread():
        return f"a single persona score, or all alike but for rounding: {order}"
    return None


def _interactions(project: ProjectResource, partition: str, user_id: str) -> dict[str, dict[str, Any]]:
    """Rating and item summary of a user's interactions by item; of a repeated one, the last."""
    rows = _table(project, "histories", partition).filter(pl.col("user_id") == user_id)
    found = rows.select("item_id", "rating", "item_summary").collect(engine="streaming")
    return {row.pop("item_id"): row for row in found.to_dicts()}


def _unknown(user_id: str, partition: str, lists: pl.LazyFrame) -> str:
    users = lists.filter(pl.col("rank") == 1).select("user_id")
    similar = users.filter(pl.col("user_id").str.starts_with(user_id[:2])).head(COMPARED_IDS).collect()["user_id"]
    if similar.is_empty():
        similar = users.head(COMPARED_IDS).collect()["user_id"]
    close = difflib.get_close_matches(user_id, similar.to_list(), n=CLOSE_MATCHES, cutoff=0.5)
    hint = f"did you mean {', '.join(close)}?" if close else f"there are users such as {', '.join(similar.head(3))}"
    return f"{partition}: unknown user {user_id}; {hint}"


def _table(project: ProjectResource, asset: str, partition: str) -> pl.LazyFrame:
    outputs = project.outputs(partition)
    version = outputs.versions(asset).find_current()
    if version is None:
        raise StorageError(
            f"{asset} ({partition}): never materialised; `personarank run --partition {partition}` makes it"
        )
    table: pl.LazyFrame = outputs.format(asset).read(version.directory, lazy=True)
    return table
