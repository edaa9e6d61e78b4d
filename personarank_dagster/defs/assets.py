"""The asset graph: raw files -> tables -> encoder -> caches -> reranked lists -> metrics."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import dagster as dg
import polars as pl

from personarank_dagster.core import metrics, ranking, schemas
from personarank_dagster.core.histories import liked_interactions
from personarank_dagster.core.ranking import VectorTable
from personarank_dagster.defs.caches import CacheBuilder
from personarank_dagster.defs.embedding import Embedder
from personarank_dagster.defs.io_managers import DATA_VERSION
from personarank_dagster.defs.partitions import UNPARTITIONED, dataset_partitions
from personarank_dagster.defs.provenance import (
    CODE_VERSIONS,
    RAW,
    RAW_INPUTS,
    check_one_encoder,
    checkpoint_folder,
    lineage,
    raw_version,
)
from personarank_dagster.defs.raw_files import RawFiles
from personarank_dagster.defs.resources import GpuResource, ProgressResource, ProjectResource
from personarank_dagster.defs.training import train, training_metadata
from personarank_dagster.storage import ingestion
from personarank_dagster.storage.bad_lines import write_quarantine
from personarank_dagster.storage.encoder_directory import EncoderDirectory
from personarank_dagster.storage.formats import RerankMetrics
from personarank_dagster.storage.ingestion import Ingested
from personarank_dagster.storage.scratch import resumable_folder

# One heavy step at a time; the limit is in dagster.yaml.
GPU_POOL = "gpu"

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
        description=f"{RAW_DESCRIPTIONS[key]} The file `{key}` of data.yaml; its data version is a content hash.",
    )
    def raw_file(project: ProjectResource) -> dg.DataVersionsByPartition:
        datasets = [project.dataset(name) for name in dataset_partitions.get_partition_keys()]
        return dg.DataVersionsByPartition(
            {dataset.name: raw_version(dataset, key) for dataset in datasets if key in dataset.data.raw_files}
        )

    return raw_file


raw_files = [_raw_file(key) for key in RAW_DESCRIPTIONS]


def _asset(
    name: str, group: str, kinds: set[str], **options: Any
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """`dg.asset` with what all partitioned assets of the graph share."""
    decorator: Callable[[Callable[..., Any]], dg.AssetsDefinition] = dg.asset(
        name=name,
        partitions_def=dataset_partitions,
        group_name=group,
        kinds=kinds,
        code_version=CODE_VERSIONS[name],
        deps=[dg.AssetKey([RAW, key]) for key in RAW_INPUTS.get(name, ())],
        **options,
    )
    return decorator


@_asset("personas", "inputs", {"polars"})
def personas(context: dg.AssetExecutionContext, project: ProjectResource) -> dg.MaterializeResult[pl.DataFrame]:
    """One row per persona: who would like an item, and why.

    From the raw persona file; used by the selections, the encoder and the persona cache.
    """
    raw = RawFiles(project.dataset(context.partition_key).data)
    summaries = raw.optional("item_summary", ingestion.read_item_summaries)
    return _ingested(project, context, raw, raw.read("persona", ingestion.read_personas, item_summaries=summaries))


@_asset("histories", "inputs", {"polars"})
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


@_asset("selected_personas", "inputs", {"polars"})
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


@_asset("candidates", "inputs", {"polars"})
def candidates(context: dg.AssetExecutionContext, project: ProjectResource) -> dg.MaterializeResult[pl.DataFrame]:
    """One row per (user, rank): the retriever's lists, best first. They are what is reranked."""
    config = project.dataset(context.partition_key)
    config.raw_path("candidates")
    raw = RawFiles(config.data)
    return _ingested(project, context, raw, raw.read("candidates", ingestion.read_candidates))


@_asset("ground_truth", "inputs", {"polars"})
def ground_truth(context: dg.AssetExecutionContext, project: ProjectResource) -> dg.MaterializeResult[pl.DataFrame]:
    """One row per (user, held-out item): what the metrics look for in the lists."""
    config = project.dataset(context.partition_key)
    config.raw_path("gt")
    raw = RawFiles(config.data)
    return _ingested(project, context, raw, raw.read("gt", ingestion.read_ground_truth))


@_asset("trained_encoder", "training", {"pytorch", "huggingface"}, pool=GPU_POOL)
def trained_encoder(
    context: dg.AssetExecutionContext,
    personas: pl.DataFrame,
    histories: pl.DataFrame,
    selected_personas: pl.DataFrame,
    project: ProjectResource,
    gpu: GpuResource,
    progress: ProgressResource,
) -> dg.MaterializeResult[Any]:
    """The encoder that puts profiles and personas into one space: a sentence-transformers directory.

    Learned from selections: the profile before a target item against the persona selected for it. Both caches are
    made with it. `out_root/train` always links to the current one.
    """
    config = project.dataset(context.partition_key)
    device = gpu.torch_device()
    tables = {"personas": personas, "histories": histories, "selections": selected_personas}
    with resumable_folder(*checkpoint_folder(project, context.partition_key, device)) as checkpoints:
        trained, left_out = train(
            context,
            config,
            tables,
            Embedder(context, project, gpu, progress),
            device=device,
            checkpoints=checkpoints,
        )
        numbers = training_metadata(trained.record(), trained.cost())
        return _result(project, context, trained, numbers | gpu.description() | _left_out(left_out))


@_asset("interaction_cache", "caches", {"numpy"}, pool=GPU_POOL)
def interaction_cache(
    context: dg.AssetExecutionContext,
    histories: pl.DataFrame,
    trained_encoder: EncoderDirectory,
    project: ProjectResource,
    gpu: GpuResource,
    progress: ProgressResource,
) -> dg.MaterializeResult[VectorTable]:
    """Unit fp16 vectors of the liked interactions, and an index with one row per interaction.

    From the histories, by the trained encoder; profiles are made from it.
    """
    config = project.dataset(context.partition_key)
    liked = liked_interactions(histories, min_rating=config.train.min_rating)
    cache, counts = CacheBuilder(context, project, gpu, progress).interactions(liked, trained_encoder)
    return _result(project, context, cache, counts)


@_asset("persona_cache", "caches", {"numpy"}, pool=GPU_POOL)
def persona_cache(
    context: dg.AssetExecutionContext,
    personas: pl.DataFrame,
    trained_encoder: EncoderDirectory,
    project: ProjectResource,
    gpu: GpuResource,
    progress: ProgressResource,
) -> dg.MaterializeResult[VectorTable]:
    """Unit fp16 vectors of the personas, and an index with one row per persona, item by item.

    From the personas, by the trained encoder; candidates are scored with it.
    """
    by_item = personas.sort("item_id", maintain_order=True)
    cache, counts = CacheBuilder(context, project, gpu, progress).personas(by_item, trained_encoder)
    return _result(project, context, cache, counts)


@_asset("reranked_candidates", "ranking", {"numpy"})
def reranked_candidates(
    context: dg.AssetExecutionContext,
    candidates: pl.DataFrame,
    interaction_cache: VectorTable,
    persona_cache: VectorTable,
    project: ProjectResource,
) -> dg.MaterializeResult[pl.DataFrame]:
    """One row per (user, rank): every candidate list in its new order, with the persona that explains each place.

    From the candidates and both caches; `out_root/rerank/reranked.jsonl` always links to the current lists.
    """
    config = project.dataset(context.partition_key)
    check_one_encoder(project, context.partition_key)
    reranked = ranking.rerank(
        candidates,
        interaction_cache,
        persona_cache,
        k=config.rerank.user_max_k,
        gamma=config.train.gamma,
        alpha=config.rerank.alpha,
    )
    return _result(project, context, reranked, {"alpha": config.rerank.alpha, **ranking.coverage(reranked)})


@_asset("rerank_metrics", "ranking", {"polars"})
def rerank_metrics(
    context: dg.AssetExecutionContext,
    reranked_candidates: pl.DataFrame,
    ground_truth: pl.DataFrame,
    histories: pl.DataFrame,
    project: ProjectResource,
) -> dg.MaterializeResult[Any]:
    """HIT, MRR and NDCG of the candidate order and of the reranked order, for all users and per scenario.

    From the reranked lists and the ground truth; `out_root/rerank/metrics.json` always links to the current ones.
    """
    config = project.dataset(context.partition_key)
    reviews = RawFiles(config.data).optional("reviews", ingestion.read_reviews)
    ranks = metrics.hit_ranks(reranked_candidates, ground_truth)
    scenarios = metrics.scenario_users(histories if reviews is None else reviews, ground_truth)
    measured = RerankMetrics(
        table=metrics.compare_scenarios(ranks, scenarios, config.rerank.ks),
        coverage=metrics.coverage(reranked_candidates, ground_truth, ranks),
        fingerprints=lineage(project, "rerank_metrics", context.partition_key),
    )
    return _result(project, context, measured, _metric_numbers(measured))


@dg.asset(
    name="metrics_report",
    group_name="ranking",
    kinds={"polars"},
    code_version=CODE_VERSIONS["metrics_report"],
    ins={"rerank_metrics": dg.AssetIn(partition_mapping=dg.AllPartitionMapping())},
)
def metrics_report(
    context: dg.AssetExecutionContext, rerank_metrics: dict[str, pl.DataFrame], project: ProjectResource
) -> dg.MaterializeResult[pl.DataFrame]:
    """One row per dataset, scenario, metric and cut-off: the current metrics of all partitions side by side."""
    tables = [table.insert_column(0, pl.lit(name).alias("dataset")) for name, table in rerank_metrics.items()]
    report = pl.concat(tables) if tables else pl.DataFrame(schema=schemas.REPORT)
    missing = sorted(set(dataset_partitions.get_partition_keys()) - rerank_metrics.keys())
    return _result(project, context, report, {"datasets": len(tables), "datasets_without_metrics": len(missing)})


all_assets: list[dg.AssetsDefinition | dg.SourceAsset] = [
    *raw_files,
    personas,
    histories,
    selected_personas,
    candidates,
    ground_truth,
    trained_encoder,
    interaction_cache,
    persona_cache,
    reranked_candidates,
    rerank_metrics,
    metrics_report,
]


def _result(
    project: ProjectResource, context: dg.AssetExecutionContext, value: Any, metadata: Mapping[str, Any]
) -> dg.MaterializeResult[Any]:
    """The value with its content hash as data version."""
    partition = context.partition_key if context.has_partition_key else UNPARTITIONED
    version = project.format(context.asset_key.path[-1], partition).version_of(value)
    numbers = {**metadata, DATA_VERSION: version}
    return dg.MaterializeResult(value=value, metadata=numbers, data_version=dg.DataVersion(version))


def _ingested(
    project: ProjectResource, context: dg.AssetExecutionContext, raw: RawFiles, ingested: Ingested
) -> dg.MaterializeResult[Any]:
    """The table with its account; bad lines of all files that were read for it go to the quarantine."""
    quarantine = raw.data.out_root / "quarantine" / f"{context.asset_key.path[-1]}.jsonl"
    write_quarantine(raw.bad_lines, quarantine)
    counts: dict[str, Any] = {
        "rows_read": ingested.read,
        "quarantined": len(ingested.bad_lines),
        **_left_out(ingested.left_out),
    }
    if raw.bad_lines:
        counts["quarantine"] = dg.MetadataValue.path(str(quarantine))
    filled = {f"filled: {what}": count for what, count in ingested.filled.items()}
    merged = {f"merged: {what}": count for what, count in ingested.merged.items()}
    return _result(project, context, ingested.table, counts | filled | merged)


def _left_out(reasons: Mapping[str, int]) -> dict[str, int]:
    return {"left_out": sum(reasons.values())} | {f"left out: {why}": count for why, count in reasons.items()}


def _metric_numbers(measured: RerankMetrics) -> dict[str, Any]:
    """Numeric metadata that the UI plots over time: every metric of all users, and who was counted."""
    overall = measured.table.filter(pl.col("scenario") == "all")
    numbers = {
        f"{order} {metric}@{k}": value
        for order in ("candidate", "reranked", "lift")
        for metric, k, value in overall.select("metric", "k", order).drop_nulls().rows()
    }
    return numbers | asdict(measured.coverage)
