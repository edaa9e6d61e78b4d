"""Columns of the tables, as the UI shows them."""

from collections.abc import Mapping

import dagster as dg

# What does not explain itself; a name means the same in every table.
DESCRIPTIONS = {
    "persona_id": "Number of the persona within its item.",
    "unique_persona_id": "<item_id>_<persona_id>; of a reranked candidate, the persona with the highest cosine.",
    "preference_rationale": "Why such a person would like the item.",
    "target_item_id": "The item of which a persona was selected.",
    "resolved": "Whether the selected persona is in the catalogue. Others are not trained on.",
    "position": "Counts a user's interactions from the oldest, 0.",
    "candidate_rank": "Place in the retriever's list, from 1.",
    "candidate_score": "The retriever's score.",
    "persona_score": "Highest cosine of the user's profile and the item's personas; null where one is missing.",
    "rank": "Place after reranking, from 1.",
    "score": "The blend: alpha * minmax(persona_score) + (1 - alpha) * minmax(candidate_score).",
    "alpha": "Weight of the persona score in this user's list.",
    "interactions": "Those of the profile that speak most for the place, and their parts of the persona score.",
    "age": "Counts a user's interactions from the newest, 0.",
    "vector_row": "Row of the matrix of vectors.",
    "scenario": "all, or a group of users: warm, cold; by their ground-truth item: head, tail.",
    "users": "Users with both a list and a ground truth.",
    "ceiling": "Share of users whose ground truth is in their list at all.",
    "moved_up": "Users whose ground truth came nearer to the top.",
    "moved_down": "Users whose ground truth came farther from the top.",
    "k": "Cut-off: the first k places count.",
    "candidate": "The metric of the retriever's order.",
    "reranked": "The metric of the published order.",
    "lift": "reranked / candidate - 1.",
    "lift_low": "Lower end of the 95 % interval of the lift.",
    "lift_high": "Upper end of the 95 % interval of the lift.",
    "shuffled": "The metric where each user has the profile of another one: what is left is not personal.",
    "personal_lift": "reranked / shuffled - 1.",
    "personal_low": "Lower end of the 95 % interval of the personal lift.",
    "personal_high": "Upper end of the 95 % interval of the personal lift.",
    "untrained": "The metric with the encoder before training.",
    "popularity": "The metric of the order by number of reviews.",
    "random": "The metric of a random order.",
    "current": "Whether this version is the one in use.",
}


def described(types: Mapping[str, str]) -> dg.TableSchema:
    """Columns with their types and what they mean."""
    return dg.TableSchema([dg.TableColumn(name, kind, DESCRIPTIONS.get(name)) for name, kind in types.items()])
