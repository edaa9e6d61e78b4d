"""The last assets: reranked lists, their metrics, and the report over all datasets."""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import dagster as dg
import polars as pl

from personarank_dagster.configuration.dataset import DatasetConfig
from personarank_dagster.core import schemas
from personarank_dagster.core.errors import ConfigError
from personarank_dagster.defs.platform.declaration import graph_asset, result
from personarank_dagster.defs.platform.formats import RerankMetrics
from personarank_dagster.defs.platform.kept_vectors import untrained_tables
from personarank_dagster.defs.platform.partitions import dataset_partitions
from personarank_dagster.defs.platform.provenance import check_one_encoder, lineage
from personarank_dagster.defs.platform.resources import GpuResource, ProjectResource
from personarank_dagster.defs.ranking.pictures import alpha_curve, metric_bars, report_bars
from personarank_dagster.ranking import metrics
from personarank_dagster.ranking import ranker as ranking
from personarank_dagster.ranking.blending import Blend, measure
from personarank_dagster.ranking.controls import popularity_and_random_places, shuffled_places
from personarank_dagster.ranking.ranker import Ranker, VectorTable
from personarank_dagster.raw import ingestion
from personarank_dagster.raw.files import RawFiles
from personarank_dagster.storage.reranked import spool


@graph_asset("reranked_candidates", "ranking", {"numpy"})
def reranked_candidates(
    context: dg.AssetExecutionContext,
    candidates: pl.LazyFrame,
    interaction_cache: VectorTable,
    persona_cache: VectorTable,
    project: ProjectResource,
    gpu: GpuResource,
) -> dg.MaterializeResult[Any]:
    """One row per (user, rank): every candidate list in its new order, with the persona that explains each place.

    From the candidates and both caches; with `alpha: auto` also the ground truth, which chooses the blend: each user
    with a ground truth has the blend that other users chose, all others have `serving_alpha`.
    `out_root/rerank/reranked.jsonl` always links to the current lists.
    """
    config = project.dataset(context.partition_key)
    check_one_encoder(project, context.partition_key)
    ranker = _ranker(config, interaction_cache, persona_cache, gpu)
    blend = _blend(config, ranker, candidates)
    parts = (ranker.rerank(block, blend.alphas_of) for block in ranking.blocks(candidates))
    reranked = spool(parts, config.data.out_root / "scratch")
    numbers = {
        "serving_alpha": blend.serving,
        "user_max_k": config.rerank.user_max_k,
        "gamma": config.train.gamma,
        **{f"alpha of fold {fold}": alpha for fold, alpha in enumerate(blend.folds)},
        **ranking.coverage(reranked),
    }
    curve = partial(alpha_curve, blend, max(config.rerank.ks))
    return result(project, context, reranked, numbers, pictures={"curve": curve})


@graph_asset("rerank_metrics", "ranking", {"polars"})
def rerank_metrics(
    context: dg.AssetExecutionContext,
    reranked_candidates: pl.LazyFrame,
    candidates: pl.LazyFrame,
    ground_truth: pl.DataFrame,
    histories: pl.LazyFrame,
    interaction_cache: VectorTable,
    persona_cache: VectorTable,
    project: ProjectResource,
    gpu: GpuResource,
) -> dg.MaterializeResult[Any]:
    """HIT, MRR and NDCG of the candidate order, the reranked order and the controls, for all users and per scenario.

    From the reranked lists and the ground truth; the shuffled control from the caches, popularity from the reviews or
    the histories. `out_root/rerank/metrics.json` always links to the current ones.
    """
    config = project.dataset(context.partition_key)
    reviews = RawFiles(config.data).optional("reviews", ingestion.read_reviews)
    interactions = histories.select("user_id", "item_id").collect() if reviews is None else reviews
    ranker = _ranker(config, interaction_cache, persona_cache, gpu)
    ranks = metrics.hit_ranks(reranked_candidates, ground_truth)
    places = {
        "candidate": metrics.place_numbers(ranks["candidate"]),
        "reranked": metrics.place_numbers(ranks["reranked"]),
        "shuffled": shuffled_places(
            ranker, candidates, ground_truth, alpha=config.rerank.alpha, k=max(config.rerank.ks)
        ),
        **popularity_and_random_places(ranker, candidates, ground_truth, interactions),
    }
    if untrained := _untrained(project, context.partition_key):
        baseline = _ranker(config, untrained[0], untrained[1], gpu)
        places["untrained"] = measure(
            baseline, candidates, ground_truth, alpha=config.rerank.alpha, k=max(config.rerank.ks)
        ).places
    scenarios = metrics.scenario_users(interactions, ground_truth)
    measured = RerankMetrics(
        table=metrics.compare_scenarios(ranks["user_id"], places, scenarios, config.rerank.ks),
        coverage=metrics.coverage(reranked_candidates, ground_truth, ranks, ranker.users["user_id"]),
        fingerprints=lineage(project, "rerank_metrics", context.partition_key),
    )
    bars = partial(metric_bars, measured.table)
    return result(project, context, measured, _metric_numbers(measured), pictures={"metrics": bars})


@graph_asset(
    "metrics_report",
    "ranking",
    {"polars"},
    partitions_def=None,
    ins={"rerank_metrics": dg.AssetIn(partition_mapping=dg.AllPartitionMapping())},
    automation_condition=None,
)
def metrics_report(
    context: dg.AssetExecutionContext, rerank_metrics: dict[str, pl.DataFrame], project: ProjectResource
) -> dg.MaterializeResult[pl.DataFrame]:
    """One row per dataset, version, scenario, metric and cut-off: all partitions and their last versions."""
    tables = [_last_metrics(project, name, table) for name, table in rerank_metrics.items()]
    report = pl.concat(tables) if tables else pl.DataFrame(schema=schemas.REPORT)
    missing = sorted(set(dataset_partitions.get_partition_keys()) - rerank_metrics.keys())
    numbers = {"datasets": len(tables), "datasets_without_metrics": len(missing)}
    return result(project, context, report, numbers, pictures={"metrics": partial(report_bars, report)})


def _last_metrics(project: ProjectResource, dataset: str, current: pl.DataFrame) -> pl.DataFrame:
    """Metrics of all versions that are kept, oldest first; those that another release wrote are passed over."""
    store, form = project.versions("rerank_metrics", dataset), project.format("rerank_metrics", dataset)
    now = store.current_name()
    tables = {name: current if name == now else form.read(store.open(name).directory) for name in store.names()}
    return pl.concat(
        table.select(
            pl.lit(dataset).alias("dataset"),
            pl.lit(name).alias("version"),
            pl.lit(name == now).alias("current"),
            *schemas.METRICS,
        )
        for name, table in tables.items()
        if dict(table.schema) == schemas.METRICS
    )


def _untrained(project: ProjectResource, partition: str) -> tuple[VectorTable, VectorTable] | None:
    """Both caches by the encoder without its heads; None where the trained encoder has none, or vectors are gone."""
    heads = project.versions("trained_encoder", partition).current().manifest.details["tune"] == "head"
    return untrained_tables(project, partition) if heads else None


def _ranker(config: DatasetConfig, interactions: VectorTable, personas: VectorTable, gpu: GpuResource) -> Ranker:
    return Ranker.of(
        interactions, personas, k=config.rerank.user_max_k, gamma=config.train.gamma, scorer=_scorer(gpu)
    )


def _scorer(gpu: GpuResource) -> Callable[..., ranking.PersonaScores]:
    """The compiled loop; torch where there is a GPU."""
    device = gpu.torch_device()
    if device == "cpu":
        return ranking.score_on_cores
    from personarank_dagster.encoding.persona_scores import score_on_device

    return score_on_device(device)


def _blend(config: DatasetConfig, ranker: Ranker, candidates: pl.LazyFrame) -> Blend:
    """The configured blend. Raises ConfigError if it is to be chosen and there is nothing to choose by."""
    if config.rerank.alpha != "auto":
        return Blend(config.rerank.alpha)
    truth = RawFiles(config.data).optional("gt", ingestion.read_ground_truth)
    if truth is None:
        raise ConfigError(
            f"{config.data_path.with_name('rerank.yaml')}: alpha must be a number in [0, 1] where data.yaml names no "
            "gt, got auto, which is chosen by the ground truth; add gt, or give a number"
        )
    return measure(ranker, candidates, truth, alpha="auto", k=max(config.rerank.ks)).blend


def _metric_numbers(measured: RerankMetrics) -> dict[str, Any]:
    """Numeric metadata that the UI plots over time: every metric of all users, and who was counted."""
    overall = measured.table.filter(pl.col("scenario") == "all")
    shown = ("candidate", "reranked", "lift", "lift_low", "lift_high", "shuffled", "personal_lift")
    numbers = {
        f"{order} {metric}@{k}": value
        for order in shown
        for metric, k, value in overall.select("metric", "k", order).drop_nulls().rows()
    }
    moved = {name: overall[name][0] for name in ("moved_up", "moved_down", "unmoved", "ceiling")}
    return numbers | moved | asdict(measured.coverage)
