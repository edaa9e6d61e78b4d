"""Columns of every table between assets."""

import polars as pl

from personarank_dagster.core.aspects import SchemaName, aspect_columns

Schema = dict[str, pl.DataType]

TIMESTAMP = pl.Datetime("us", "UTC")

PERSONAS: Schema = {
    "item_id": pl.String(),
    "persona_id": pl.String(),
    "unique_persona_id": pl.String(),
    "name": pl.String(),
    "description": pl.String(),
    "preference_rationale": pl.String(),
    "item_summary": pl.String(),
}

SELECTED_PERSONAS: Schema = {
    "user_id": pl.String(),
    "target_item_id": pl.String(),
    "unique_persona_id": pl.String(),
    "selected_persona_name": pl.String(),
    "selection_reasoning": pl.String(),
    "resolved": pl.Boolean(),
}

CANDIDATES: Schema = {
    "user_id": pl.String(),
    "candidate_rank": pl.UInt32(),
    "item_id": pl.String(),
    "candidate_score": pl.Float64(),
}

GROUND_TRUTH: Schema = {"user_id": pl.String(), "item_id": pl.String()}

REVIEWS: Schema = {
    "review_id": pl.String(),
    "user_id": pl.String(),
    "item_id": pl.String(),
    "rating": pl.Float64(),
    "timestamp": TIMESTAMP,
    "title": pl.String(),
    "text": pl.String(),
}

ITEMS: Schema = {"item_id": pl.String(), "title": pl.String(), "description": pl.String()}

# Raw reviews in parts; a role is what a selection is made for, or what the metrics look for.
SPLIT: Schema = {**REVIEWS, "part": pl.String(), "role": pl.String()}

ITEM_SUMMARIES: Schema = {"item_id": pl.String(), "item_summary": pl.String()}

# Each persona with the reviews that it rests on.
ITEM_PERSONAS: Schema = {**PERSONAS, "review_ids": pl.List(pl.String())}

# Each selection with the id under which its persona was offered, and how many there were.
PERSONA_SELECTIONS: Schema = {**SELECTED_PERSONAS, "offered_as": pl.String(), "offered": pl.UInt32()}

INTERACTION_INDEX: Schema = {
    "user_id": pl.String(),
    "item_id": pl.String(),
    "rating": pl.Float64(),
    "timestamp": TIMESTAMP,
    "age": pl.UInt32(),
    "vector_row": pl.UInt32(),
}

PERSONA_INDEX: Schema = {
    "item_id": pl.String(),
    "unique_persona_id": pl.String(),
    "vector_row": pl.UInt32(),
}

RERANKED: Schema = {
    "user_id": pl.String(),
    "rank": pl.UInt32(),
    "item_id": pl.String(),
    "score": pl.Float64(),
    "candidate_rank": pl.UInt32(),
    "candidate_score": pl.Float64(),
    "persona_score": pl.Float64(),
    "unique_persona_id": pl.String(),
    "interactions": pl.List(pl.Struct({"item_id": pl.String(), "contribution": pl.Float32()})),
    "alpha": pl.Float64(),
}

# What the order of a learned blend is made of, by name; see `ranking.signals.SIGNALS`.
SIGNAL_NAMES = (
    "rank",
    "candidate_score",
    "best_persona",
    "two_best_personas",
    "all_personas",
    "best_pair",
    "every_interaction",
    "popularity",
)

RERANKED_BY_SIGNALS: Schema = {**RERANKED, "signals": pl.Struct(dict.fromkeys(SIGNAL_NAMES, pl.Float32()))}

DIGESTS: Schema = {"user_id": pl.String(), "digest": pl.UInt64()}

HANDED_OVER: Schema = {"path": pl.String(), "rows": pl.Int64(), "bytes": pl.Int64()}

METRICS: Schema = {
    "scenario": pl.String(),
    "users": pl.UInt32(),
    "ceiling": pl.Float64(),
    "moved_up": pl.UInt32(),
    "moved_down": pl.UInt32(),
    "unmoved": pl.UInt32(),
    "metric": pl.String(),
    "k": pl.UInt32(),
    **dict.fromkeys(("candidate", "reranked", "lift", "lift_low", "lift_high", "lift_p"), pl.Float64()),
    **dict.fromkeys(("shuffled", "personal_lift", "personal_low", "personal_high"), pl.Float64()),
    **dict.fromkeys(("without_personas", "persona_lift", "persona_low", "persona_high"), pl.Float64()),
    **dict.fromkeys(("content", "untrained", "popularity", "random"), pl.Float64()),
}

# Users in the order of their lists; the place of the best ground-truth item in each order, 0 where not listed.
PLACES: Schema = {
    "user_id": pl.String(),
    **dict.fromkeys(("candidate", "reranked"), pl.Int64()),
    **dict.fromkeys(("shuffled", "without_personas", "content", "untrained", "popularity", "random"), pl.Int64()),
}

REPORT: Schema = {"dataset": pl.String(), "version": pl.String(), "current": pl.Boolean(), **METRICS}


def review_aspects(schema: SchemaName) -> Schema:
    """Columns of the aspects of reviews."""
    return {"review_id": pl.String(), **{column: pl.String() for column in aspect_columns(schema)}}


def histories(schema: SchemaName) -> Schema:
    """Columns of the histories table: one row per interaction, `position` counts from the user's oldest."""
    return {
        "user_id": pl.String(),
        "position": pl.UInt32(),
        "item_id": pl.String(),
        "rating": pl.Float64(),
        "timestamp": TIMESTAMP,
        "item_summary": pl.String(),
        **{column: pl.String() for column in aspect_columns(schema)},
    }
