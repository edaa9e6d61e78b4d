"""What the stages ask of a dataset, from its published tables: for those who ask, and for those who check."""

from collections.abc import Callable, Mapping

import polars as pl

from personarank_dagster.configuration.dataset import DatasetConfig
from personarank_dagster.preparation.pipeline import Preparation, scope_of
from personarank_dagster.preparation.questions import Question
from personarank_dagster.preparation.reviews.split import split_of_table
from personarank_dagster.preparation.stage_runs import prepare_config

Tables = Mapping[str, pl.DataFrame]

# The tables that each stage is asked from.
SOURCES: Mapping[str, tuple[str, ...]] = {
    "item_summaries": ("split", "items"),
    "review_aspects": ("split", "items"),
    "item_personas": ("split", "item_summaries", "review_aspects"),
    "persona_selections": ("split", "items", "review_aspects", "item_personas"),
}


def stage_questions(stage: str, config: DatasetConfig, tables: Tables) -> list[Question]:
    """All questions of a stage."""
    return _ASKED[stage](_preparation(config, tables), tables)


def _preparation(config: DatasetConfig, tables: Tables) -> Preparation:
    split = split_of_table(tables["split"])
    known = {"items": tables["items"]} if "items" in tables else {}
    return Preparation(prepare_config(config), config.data.schema, split, scope_of(split), **known)


_ASKED: Mapping[str, Callable[[Preparation, Tables], list[Question]]] = {
    "item_summaries": lambda preparation, tables: preparation.item_summaries(),
    "review_aspects": lambda preparation, tables: preparation.review_aspects(),
    "item_personas": lambda preparation, tables: preparation.item_personas(
        tables["item_summaries"], tables["review_aspects"]
    ),
    "persona_selections": lambda preparation, tables: preparation.persona_selections(
        tables["review_aspects"], tables["item_personas"]
    ),
}
