"""The assets of the preparation: raw reviews, what is held out of them, what a language model makes of the rest."""

from typing import Any

import dagster as dg
import polars as pl

from personarank_dagster.configuration.dataset import DatasetConfig
from personarank_dagster.core import schemas
from personarank_dagster.defs.platform.declarations import LLM_STEP, bad_row_rules, graph_asset
from personarank_dagster.defs.platform.io.formats import TableFormat
from personarank_dagster.defs.platform.lineage.snapshots import PROMPT
from personarank_dagster.defs.platform.resources import ProgressResource, ProjectResource
from personarank_dagster.defs.platform.steps import Step, left_out
from personarank_dagster.defs.preparation.asking import asked, numbers_of
from personarank_dagster.defs.preparation.checks import checks_of
from personarank_dagster.defs.preparation.pictures import pictures_of
from personarank_dagster.preparation.pipeline import split_of
from personarank_dagster.preparation.stage_runs import prepare_config
from personarank_dagster.preparation.stages import item_personas as personas_stage
from personarank_dagster.preparation.stages import item_summaries as summaries_stage
from personarank_dagster.preparation.stages import persona_selections as selections_stage
from personarank_dagster.preparation.stages import review_aspects as aspects_stage
from personarank_dagster.raw.downloads import read_downloaded_items, read_downloaded_reviews

# Settings that an answer depends on, whichever the stage.
ANSWER_SETTINGS = (
    "base_url",
    "model",
    "temperature",
    "seed",
    "request",
    "max_tokens",
    "context_tokens",
    "mask_contacts",
)


def _settings(config: DatasetConfig, *names: str) -> dict[str, object]:
    return {name: getattr(config.prepare, name) for name in names} if config.prepare else {}


def _stage(name: str, *settings: str) -> dict[str, Any]:
    """What the declarations of all stages that ask share: their prompt is among what they are made from."""
    return {
        "group": "preparation",
        "kinds": {"llm"},
        "settings": lambda config: (
            {"schema": config.data.schema, **_settings(config, *ANSWER_SETTINGS, *settings)} if config.prepare else {}
        ),
        "contents": lambda config: (f"{PROMPT}/{name}",) if config.prepare else (),
        "checks": checks_of(name),
        **LLM_STEP,
    }


@graph_asset(
    group="preparation",
    kinds={"polars"},
    raw=("raw_reviews",),
    settings=bad_row_rules,
    format=lambda schema: TableFormat(schemas.REVIEWS, ["review_id"]),
    checks=(),
)
def reviews(context: dg.AssetExecutionContext, project: ProjectResource) -> dg.MaterializeResult[Any]:
    """One row per raw review, chronological per user; those without a text count as interactions.

    From `raw_reviews`, in the forms that people download; the split is made of it, before anything else sees it.
    """
    step = Step.of(context, project)
    raw = step.raw_files()
    ingested = raw.read("raw_reviews", read_downloaded_reviews)
    without_text = ingested.frame["text"].null_count()
    numbers = {"rows_read": ingested.read, "quarantined": len(ingested.bad_lines), "without_text": without_text}
    return step.result(ingested.table, numbers | left_out(ingested.left_out) | step.set_aside(raw))


@graph_asset(
    group="preparation",
    kinds={"polars"},
    raw=("raw_items",),
    settings=bad_row_rules,
    format=lambda schema: TableFormat(schemas.ITEMS, ["item_id"]),
    checks=(),
)
def items(context: dg.AssetExecutionContext, project: ProjectResource) -> dg.MaterializeResult[Any]:
    """One row per item: its title, and what the source says of it, one fact a line.

    From `raw_items`; shown to the language model.
    """
    step = Step.of(context, project)
    raw = step.raw_files()
    ingested = raw.read("raw_items", read_downloaded_items)
    numbers = {"rows_read": ingested.read, "quarantined": len(ingested.bad_lines)}
    return step.result(ingested.table, numbers | left_out(ingested.left_out) | step.set_aside(raw))


@graph_asset(
    group="preparation",
    kinds={"polars"},
    settings=lambda config: _settings(config, "min_rating", "as_of", "k_core"),
    code_version="2",
    format=lambda schema: TableFormat(schemas.SPLIT, ["review_id"]),
    checks=checks_of("split"),
)
def split(
    context: dg.AssetExecutionContext, reviews: pl.DataFrame, project: ProjectResource
) -> dg.MaterializeResult[Any]:
    """One row per review that is trained on or held out: which part, and which item selections are made for.

    From the reviews; everything after it sees the training part alone, but for the ground truth.
    """
    step = Step.of(context, project)
    made = split_of(reviews, prepare_config(step.config))
    numbers = {
        "training_reviews": made.training.table.height,
        "held_out_reviews": made.held_out.table.height,
        "users_with_ground_truth": made.ground_truth["user_id"].n_unique(),
        "users_with_target": made.targets.height,
        "copies_of_held_out_texts": made.blanked,
    }
    return step.result(made.table, numbers | left_out(made.left_out))


@graph_asset(
    **_stage("item_summaries"),
    format=lambda schema: TableFormat(schemas.ITEM_SUMMARIES, ["item_id"]),
)
def item_summaries(
    context: dg.AssetExecutionContext,
    split: pl.DataFrame,
    items: pl.DataFrame,
    project: ProjectResource,
    progress: ProgressResource,
) -> dg.MaterializeResult[Any]:
    """One row per reviewed item: what it is, what people praise and criticise, in a few sentences.

    Asked of the language model, from the item and its training reviews.
    """
    step = Step.of(context, project)
    answers, report = asked(step, progress, {"split": split, "items": items})
    table = summaries_stage.table(answers)
    return step.result(table, numbers_of(report), pictures=pictures_of(table, report))


@graph_asset(
    **_stage("review_aspects"),
    format=lambda schema: TableFormat(schemas.review_aspects(schema), ["review_id"]),
)
def review_aspects(
    context: dg.AssetExecutionContext,
    split: pl.DataFrame,
    items: pl.DataFrame,
    project: ProjectResource,
    progress: ProgressResource,
) -> dg.MaterializeResult[Any]:
    """One row per training review with a text: what it says of its author's preferences, null where nothing.

    Asked of the language model, review by review; personas and histories are made from it.
    """
    step = Step.of(context, project)
    answers, report = asked(step, progress, {"split": split, "items": items})
    table = aspects_stage.table(answers, step.config.data.schema)
    return step.result(table, numbers_of(report), pictures=pictures_of(table, report))


@graph_asset(
    **_stage("item_personas", "min_personas", "max_personas"),
    format=lambda schema: TableFormat(schemas.ITEM_PERSONAS, ["unique_persona_id"]),
)
def item_personas(
    context: dg.AssetExecutionContext,
    split: pl.DataFrame,
    item_summaries: pl.DataFrame,
    review_aspects: pl.DataFrame,
    project: ProjectResource,
    progress: ProgressResource,
) -> dg.MaterializeResult[Any]:
    """One row per persona of an item: who would like it and why, and the ids of the reviews that it rests on.

    Asked of the language model, from the item's summary and the aspects of its training reviews.
    """
    step = Step.of(context, project)
    tables = {"split": split, "item_summaries": item_summaries, "review_aspects": review_aspects}
    answers, report = asked(step, progress, tables)
    table = personas_stage.table(answers, item_summaries)
    return step.result(table, numbers_of(report), pictures=pictures_of(table, report))


@graph_asset(
    **_stage("persona_selections"),
    format=lambda schema: TableFormat(schemas.PERSONA_SELECTIONS, ["user_id"]),
)
def persona_selections(
    context: dg.AssetExecutionContext,
    split: pl.DataFrame,
    items: pl.DataFrame,
    review_aspects: pl.DataFrame,
    item_personas: pl.DataFrame,
    project: ProjectResource,
    progress: ProgressResource,
) -> dg.MaterializeResult[Any]:
    """One row per user: the persona of the training target that fits what the user did before it.

    Asked of the language model, which sees the personas in an order drawn by the seed; never for the ground truth.
    """
    step = Step.of(context, project)
    tables = {
        "split": split,
        "items": items,
        "review_aspects": review_aspects,
        "item_personas": item_personas,
    }
    answers, report = asked(step, progress, tables)
    table = selections_stage.table(answers)
    return step.result(table, numbers_of(report), pictures=pictures_of(table, report))
