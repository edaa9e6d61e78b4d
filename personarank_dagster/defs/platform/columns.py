"""Columns of the tables, as the UI shows them."""

from collections.abc import Mapping

import dagster as dg
import polars as pl

from personarank_dagster.core.aspects import ASPECTS_BY_SCHEMA, SchemaName

ASPECT_DESCRIPTIONS = {
    "category_preference": "Which kind of product the user likes, by the review.",
    "purchase_purpose": "What the user bought it for.",
    "quality_criteria": "What the user judges quality by.",
    "usage_context": "Where and when the user has use for it.",
    "cuisine_category": "Which kind of food or place the user likes, by the review.",
    "specific_dishes_or_attributes": "Dishes and features that the review names.",
    "visit_purpose": "What the user came for.",
    "visit_context": "When and with whom the user came.",
}

REASON_DESCRIPTIONS = {
    aspect.reason_key: f"What in the review speaks for {aspect.key}."
    for aspects in ASPECTS_BY_SCHEMA.values()
    for aspect in aspects
    if aspect.has_reason
}

COLUMN_SCHEMA = "dagster/column_schema"

# A name means the same in every table.
DESCRIPTIONS = {
    "user_id": "The user, as the raw files call them.",
    "item_id": "The item, as the raw files call it.",
    "persona_id": "Number of the persona within its item.",
    "unique_persona_id": "<item_id>_<persona_id>; of a reranked candidate, the persona with the highest cosine.",
    "name": "What the persona is called.",
    "description": "Of a persona, who such a person is; of an item, what its source says.",
    "preference_rationale": "Why such a person would like the item.",
    "item_summary": "What the item is, in a few sentences.",
    "rating": "1 to 5.",
    "timestamp": "When the user reviewed the item, in UTC.",
    **ASPECT_DESCRIPTIONS,
    **REASON_DESCRIPTIONS,
    "review_id": "The review, as its source calls it; without such a name by its content.",
    "title": "Of a review its headline, of an item its name.",
    "text": "What the review says.",
    "part": "training or held out.",
    "role": "target: a persona of this item is selected for the user; ground truth: what the metrics look for.",
    "review_ids": "The reviews that the persona rests on.",
    "offered_as": "What the model was shown the selected persona as; P1 was the first.",
    "offered": "How many personas the model was shown.",
    "target_item_id": "The item of which a persona was selected.",
    "selected_persona_name": "The persona's name, as the judge gave it.",
    "selection_reasoning": "Why the judge chose it.",
    "resolved": "Whether the selected persona is in the catalogue. Others are not trained on.",
    "position": "Counts a user's interactions from the oldest, 0.",
    "candidate_rank": "Place in the retriever's list, from 1.",
    "candidate_score": "The retriever's score.",
    "persona_score": "Highest cosine of the user's profile and the item's personas; null where one is missing.",
    "rank": "Place after reranking, from 1.",
    "score": "alpha * minmax(persona_score) + (1 - alpha) * minmax(candidate_score); of a learned blend see signals.",
    "alpha": "Weight of the persona score in this user's list; null where the blend is learned.",
    "signals": "Only where the blend is learned: what each signal adds to the score, against the mean of the list.",
    "interactions": "Those of the profile that speak most for the place, and their parts of the persona score.",
    "age": "Counts a user's interactions from the newest, 0.",
    "vector_row": "Row of the matrix of vectors.",
    "scenario": "all, or a group of users: warm, cold; by their ground-truth item: head, tail.",
    "users": "Users with both a list and a ground truth.",
    "digest": "Hash of the list that the store holds.",
    "path": "The file, or its address.",
    "rows": "Its rows.",
    "bytes": "Its size.",
    "dataset": "Name of the dataset.",
    "version": "Version of its metrics; a name begins with the moment it was made at, in UTC.",
    "metric": "HIT, MRR, NDCG, RECALL, PRECISION, MAP; of all lists COVERAGE, GINI, NOVELTY, DIVERSITY.",
    "ceiling": "Share of users whose ground truth is in their list at all.",
    "moved_up": "Users whose ground truth came nearer to the top.",
    "moved_down": "Users whose ground truth came farther from the top.",
    "unmoved": "Users whose ground truth kept its place, or is in no list.",
    "k": "Cut-off: the first k places count.",
    "candidate": "The metric of the retriever's order.",
    "reranked": "The metric of the published order.",
    "lift": "reranked / candidate - 1.",
    "lift_low": "Lower end of the 95 % interval of the lift.",
    "lift_high": "Upper end of the 95 % interval of the lift.",
    "lift_p": "Chance of a lift this far from 0 without a difference; of a scenario's metrics together (Holm).",
    "without_personas": "The metric of a blend learned without persona signals.",
    "persona_lift": "reranked / without_personas - 1.",
    "persona_low": "Lower end of the 95 % interval of the persona lift.",
    "persona_high": "Upper end of the 95 % interval of the persona lift.",
    "content": "The metric where the mean of an item's interaction texts stands for its personas.",
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


def described_by_schema(columns: Mapping[SchemaName, Mapping[str, pl.DataType]]) -> dg.TableSchema:
    """Columns of a table in datasets of every schema; where not all have one, its description says which do."""
    every = {name: dtype for of_schema in columns.values() for name, dtype in of_schema.items()}
    owners = {name: [schema for schema, of_schema in columns.items() if name in of_schema] for name in every}
    only = {name: f"({', '.join(owners[name])}) " if len(owners[name]) < len(columns) else "" for name in every}
    return dg.TableSchema(
        [dg.TableColumn(name, str(dtype), only[name] + DESCRIPTIONS[name]) for name, dtype in every.items()]
    )
