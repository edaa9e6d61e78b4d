"""The assets of the inputs: the raw files, as observable sources, and a table of each kind of row."""

from functools import partial
from typing import Any

import dagster as dg
import polars as pl

from personarank_dagster.defs.inputs.pictures import distributions
from personarank_dagster.defs.platform.declaration import graph_asset, left_out, result
from personarank_dagster.defs.platform.partitions import dataset_partitions
from personarank_dagster.defs.platform.provenance import RAW, raw_version
from personarank_dagster.defs.platform.resources import ProjectResource
from personarank_dagster.raw import ingestion
from personarank_dagster.raw.bad_lines import write_quarantine
from personarank_dagster.raw.files import RawFiles
from personarank_dagster.raw.ingestion import Ingested

RAW_DESCRIPTIONS = {
    "persona": "Personas of every item.",
    "item_summary": "Summaries of every item, for histories and personas that lack them.",
    "loo_history": "Histories of every user without the held-out interaction.",
    "aspects": "Aspects of every review, for histories that lack them.",
    "selected": "Selections: which persona of an item a judge chose for a user.",
    "candidates": "The retriever's list of every user.",
    "gt": "The held-out item(s) of every user.",
    "reviews": "Who reviewed what: the activity and popularity behind the scenarios.",
}


def _raw_file(key: str) -> dg.SourceAsset:
    @dg.observable_source_asset(
        key=[RAW, key],
        partitions_def=dataset_partitions,
        group_name="raw_files",
        automation_condition=dg.AutomationCondition.on_cron("*/5 * * * *"),
        description=f"{RAW_DESCRIPTIONS[key]} The file `{key}` of data.yaml; its data version is a content hash.",
    )
    def raw_file(project: ProjectResource) -> dg.DataVersionsByPartition:
        datasets = [project.dataset(name) for name in dataset_partitions.get_partition_keys()]
        return dg.DataVersionsByPartition(
            {dataset.name: raw_version(dataset, key) for dataset in datasets if key in dataset.data.raw_files}
        )

    return raw_file


raw_files = [_raw_file(key) for key in RAW_DESCRIPTIONS]


@graph_asset("personas", "inputs", {"polars"})
def personas(context: dg.AssetExecutionContext, project: ProjectResource) -> dg.MaterializeResult[pl.DataFrame]:
    """One row per persona: who would like an item, and why.

    From the raw persona file; used by the selections, the encoder and the persona cache.
    """
    raw = RawFiles(project.dataset(context.partition_key).data)
    summaries = raw.optional("item_summary", ingestion.read_item_summaries)
    return _ingested(project, context, raw, raw.read("persona", ingestion.read_personas, item_summaries=summaries))


@graph_asset("histories", "inputs", {"polars"})
def histories(context: dg.AssetExecutionContext, project: ProjectResource) -> dg.MaterializeResult[Any]:
    """One row per interaction, chronological per user, without the held-out item.

    From the raw leave-one-out histories; used by the encoder, the interaction cache and the metrics.
    """
    raw = RawFiles(project.dataset(context.partition_key).data)
    ingested = raw.read(
        "loo_history",
        ingestion.read_histories,
        schema=raw.data.schema,
        scratch=raw.data.out_root / "scratch",
        ground_truth=raw.optional("gt", ingestion.read_ground_truth),
        item_summaries=raw.optional("item_summary", ingestion.read_item_summaries),
        aspects=raw.optional("aspects", ingestion.read_aspects, schema=raw.data.schema),
    )
    return _ingested(project, context, raw, ingested)


@graph_asset("selected_personas", "inputs", {"polars"})
def selected_personas(
    context: dg.AssetExecutionContext, personas: pl.DataFrame, project: ProjectResource
) -> dg.MaterializeResult[pl.DataFrame]:
    """One row per selection: the persona of a target item that a judge chose for a user.

    From the raw selections, resolved against the personas; the encoder learns from them.
    """
    raw = RawFiles(project.dataset(context.partition_key).data)
    truth = raw.optional("gt", ingestion.read_ground_truth)
    ingested = raw.read("selected", ingestion.read_selections, personas=personas, ground_truth=truth)
    return _ingested(project, context, raw, ingested)


@graph_asset("candidates", "inputs", {"polars"})
def candidates(context: dg.AssetExecutionContext, project: ProjectResource) -> dg.MaterializeResult[pl.DataFrame]:
    """One row per (user, rank): the retriever's lists, best first. They are what is reranked."""
    config = project.dataset(context.partition_key)
    config.raw_path("candidates")
    raw = RawFiles(config.data)
    return _ingested(project, context, raw, raw.read("candidates", ingestion.read_candidates))


@graph_asset("ground_truth", "inputs", {"polars"})
def ground_truth(context: dg.AssetExecutionContext, project: ProjectResource) -> dg.MaterializeResult[pl.DataFrame]:
    """One row per (user, held-out item): what the metrics look for in the lists."""
    config = project.dataset(context.partition_key)
    config.raw_path("gt")
    raw = RawFiles(config.data)
    return _ingested(project, context, raw, raw.read("gt", ingestion.read_ground_truth))


def _ingested(
    project: ProjectResource, context: dg.AssetExecutionContext, raw: RawFiles, ingested: Ingested
) -> dg.MaterializeResult[Any]:
    """The table with its account; bad lines of all files that were read for it go to the quarantine."""
    quarantine = raw.data.out_root / "quarantine" / f"{context.asset_key.path[-1]}.jsonl"
    write_quarantine(raw.bad_lines, quarantine)
    counts: dict[str, Any] = {
        "rows_read": ingested.read,
        "quarantined": len(ingested.bad_lines),
        **left_out(ingested.left_out),
    }
    if raw.bad_lines:
        counts["quarantine"] = dg.MetadataValue.path(str(quarantine))
    filled = {f"filled: {what}": count for what, count in ingested.filled.items()}
    merged = {f"merged: {what}": count for what, count in ingested.merged.items()}
    pictures = {"distributions": partial(distributions, context.asset_key.path[-1], ingested.table)}
    return result(project, context, ingested.table, counts | filled | merged, pictures=pictures)
