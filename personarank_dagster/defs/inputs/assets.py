"""The assets of the inputs: the raw files, as observable sources, and a table of each kind of row."""

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import dagster as dg
import msgspec
import polars as pl

from personarank_dagster.core import schemas
from personarank_dagster.core.data_checks import ASPECTS_READ, HELD_OUT_ASPECTS
from personarank_dagster.defs.inputs.checks import checks_of
from personarank_dagster.defs.inputs.pictures import distributions
from personarank_dagster.defs.platform.declarations import bad_row_rules, graph_asset
from personarank_dagster.defs.platform.io.formats import TableFormat
from personarank_dagster.defs.platform.resources import ProjectResource
from personarank_dagster.defs.platform.steps import Step, left_out
from personarank_dagster.preparation.reviews.split import split_of_table
from personarank_dagster.preparation.tables import interactions_of
from personarank_dagster.raw import ingestion
from personarank_dagster.raw.files import RawFiles
from personarank_dagster.raw.ingestion import Ingested


@graph_asset(
    group="inputs",
    kinds={"polars"},
    raw=("persona",),
    optional_raw=("item_summary",),
    instead=("item_personas",),
    settings=bad_row_rules,
    format=lambda schema: TableFormat(schemas.PERSONAS, ["unique_persona_id"]),
    checks=checks_of("personas"),
)
def personas(
    context: dg.AssetExecutionContext, item_personas: pl.DataFrame | None, project: ProjectResource
) -> dg.MaterializeResult[Any]:
    """One row per persona: who would like an item, and why.

    From the raw persona file, or by the language model; used by the selections, the encoder and the persona cache.
    """
    step = Step.of(context, project)
    if item_personas is not None:
        return _made(step, item_personas.select(*schemas.PERSONAS))
    raw = step.raw_files()
    summaries = raw.optional("item_summary", ingestion.read_item_summaries)
    return _ingested(step, raw, raw.read("persona", ingestion.read_personas, item_summaries=summaries))


@graph_asset(
    group="inputs",
    kinds={"polars"},
    raw=("loo_history",),
    optional_raw=("item_summary", "aspects", "gt"),
    instead=("split", "item_summaries", "review_aspects"),
    settings=lambda config: {"schema": config.data.schema, **bad_row_rules(config)},
    format=lambda schema: TableFormat(schemas.histories(schema), ["user_id", "position"]),
    code_version="2",
    checks=checks_of("histories"),
)
def histories(
    context: dg.AssetExecutionContext,
    split: pl.DataFrame | None,
    item_summaries: pl.DataFrame | None,
    review_aspects: pl.DataFrame | None,
    project: ProjectResource,
) -> dg.MaterializeResult[Any]:
    """One row per interaction, chronological per user, without the held-out item.

    From the raw leave-one-out histories, or the training part of raw reviews; used by the encoder, the interaction
    cache and the metrics.
    """
    step = Step.of(context, project)
    if split is not None and item_summaries is not None and review_aspects is not None:
        schema = step.config.data.schema
        return _made(step, interactions_of(split_of_table(split), item_summaries, review_aspects, schema))
    raw = step.raw_files()
    truth = raw.optional("gt", ingestion.read_ground_truth)
    aspects = raw.optional("aspects", ingestion.read_aspects, schema=raw.data.schema, ground_truth=truth)
    ingested = raw.read(
        "loo_history",
        ingestion.read_histories,
        schema=raw.data.schema,
        scratch=raw.data.out_root / "scratch",
        ground_truth=truth,
        item_summaries=raw.optional("item_summary", ingestion.read_item_summaries),
        aspects=aspects,
    )
    return _ingested(step, raw, ingested, more=_held_out_aspects(raw))


@graph_asset(
    group="inputs",
    kinds={"polars"},
    raw=("selected",),
    optional_raw=("gt",),
    instead=("persona_selections",),
    settings=bad_row_rules,
    format=lambda schema: TableFormat(schemas.SELECTED_PERSONAS),
    code_version="2",
    checks=checks_of("selected_personas"),
)
def selected_personas(
    context: dg.AssetExecutionContext,
    personas: pl.DataFrame,
    persona_selections: pl.DataFrame | None,
    project: ProjectResource,
) -> dg.MaterializeResult[Any]:
    """One row per selection: the persona of a target item that a judge chose for a user.

    From the raw selections, resolved against the personas, or by the language model; the encoder learns from them.
    """
    step = Step.of(context, project)
    if persona_selections is not None:
        return _made(step, persona_selections.select(*schemas.SELECTED_PERSONAS))
    raw = step.raw_files()
    truth = raw.optional("gt", ingestion.read_ground_truth)
    ingested = raw.read("selected", ingestion.read_selections, personas=personas, ground_truth=truth)
    return _ingested(step, raw, ingested)


@graph_asset(
    group="inputs",
    kinds={"polars"},
    raw=("candidates",),
    instead=("histories",),
    stands_in=lambda config: config.retriever is not None,
    settings=lambda config: msgspec.to_builtins(config.retriever) if config.retriever else bad_row_rules(config),
    format=lambda schema: TableFormat(schemas.CANDIDATES, ["user_id", "candidate_rank"]),
    checks=checks_of("candidates"),
)
def candidates(
    context: dg.AssetExecutionContext, histories: pl.LazyFrame | None, project: ProjectResource
) -> dg.MaterializeResult[Any]:
    """One row per (user, rank): the retriever's lists, best first. They are what is reranked.

    From the raw lists; without such a file from the histories, as retriever.yaml says.
    """
    step = Step.of(context, project)
    if histories is not None and step.config.retriever is not None:
        from personarank_dagster.preparation.retrieval.lists import candidate_lists

        return _made(step, candidate_lists(histories, step.config.retriever))
    raw = step.raw_files()
    return _ingested(step, raw, raw.read("candidates", ingestion.read_candidates))


@graph_asset(
    group="inputs",
    kinds={"polars"},
    raw=("gt",),
    instead=("split",),
    settings=bad_row_rules,
    format=lambda schema: TableFormat(schemas.GROUND_TRUTH, ["user_id", "item_id"]),
    checks=checks_of("ground_truth"),
)
def ground_truth(
    context: dg.AssetExecutionContext, split: pl.DataFrame | None, project: ProjectResource
) -> dg.MaterializeResult[Any]:
    """One row per (user, held-out item): what the metrics look for in the lists."""
    step = Step.of(context, project)
    if split is not None:
        return _made(step, split_of_table(split).ground_truth)
    raw = step.raw_files()
    return _ingested(step, raw, raw.read("gt", ingestion.read_ground_truth))


def _held_out_aspects(raw: RawFiles) -> dict[str, int]:
    """How many aspects of held-out reviews there are, which personas may have been written from; {} if unknown."""
    if not {"aspects", "gt"} <= raw.rows_read.keys():
        return {}
    held_out = raw.left_out["aspects"].get("the user's ground truth", 0)
    return {ASPECTS_READ: raw.rows_read["aspects"], HELD_OUT_ASPECTS: held_out}


def _made(step: Step, table: pl.DataFrame) -> dg.MaterializeResult[Any]:
    """A table that no file holds."""
    pictures = {"distributions": partial(distributions, step.declaration.name, table)}
    return step.result(table, {}, pictures=pictures)


def _ingested(
    step: Step, raw: RawFiles, ingested: Ingested, *, more: Mapping[str, int] = MappingProxyType({})
) -> dg.MaterializeResult[Any]:
    """The table with its account; bad lines of all files that were read for it go to the quarantine."""
    counts: dict[str, Any] = {
        "rows_read": ingested.read,
        "quarantined": len(ingested.bad_lines),
        **left_out(ingested.left_out),
        **step.set_aside(raw),
    }
    filled = {f"filled: {what}": count for what, count in ingested.filled.items()}
    merged = {f"merged: {what}": count for what, count in ingested.merged.items()}
    pictures = {"distributions": partial(distributions, step.declaration.name, ingested.table)}
    return step.result(ingested.table, counts | filled | merged | dict(more), pictures=pictures)
