"""The last assets: reranked lists, their metrics, and the report over all datasets."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Literal

import dagster as dg
import msgspec
import polars as pl

from personarank_dagster.configuration.dataset import DatasetConfig
from personarank_dagster.core import schemas
from personarank_dagster.core.errors import ContractError, listed_by_name
from personarank_dagster.defs.platform.compute import ComputeResource
from personarank_dagster.defs.platform.declarations import bad_row_rules, graph_asset, no_settings
from personarank_dagster.defs.platform.figures import Draw
from personarank_dagster.defs.platform.io.formats import (
    METRICS_JSON,
    MetricsFormat,
    RerankedFormat,
    RerankMetrics,
    TableFormat,
)
from personarank_dagster.defs.platform.io.outputs import Outputs
from personarank_dagster.defs.platform.kept_vectors import CACHES, untrained_tables
from personarank_dagster.defs.platform.resources import GpuResource, ProjectResource
from personarank_dagster.defs.platform.steps import Step, left_out
from personarank_dagster.defs.ranking.checks import list_checks, metric_checks
from personarank_dagster.defs.ranking.choices import choose_blend
from personarank_dagster.defs.ranking.engines import ranked_elsewhere
from personarank_dagster.defs.ranking.examples import example_lists
from personarank_dagster.defs.ranking.pictures import metric_bars, movement, report_lines
from personarank_dagster.preparation.reviews.split import split_of_table
from personarank_dagster.ranking import metrics
from personarank_dagster.ranking import ranker as ranking
from personarank_dagster.ranking.blending import Alpha, Blend, measure
from personarank_dagster.ranking.controls import (
    Measure,
    content_places,
    popularity_and_random_places,
    shuffled_places,
)
from personarank_dagster.ranking.cross_fitting import LearnedBlend, learn
from personarank_dagster.ranking.elsewhere import Elsewhere
from personarank_dagster.ranking.list_metrics import list_metrics
from personarank_dagster.ranking.ranker import Ranker, VectorTable
from personarank_dagster.ranking.set_metrics import ORDERS, set_metrics
from personarank_dagster.ranking.signals import SIGNALS, WITHOUT_PERSONAS, item_counts
from personarank_dagster.raw import ingestion
from personarank_dagster.storage.reranked import RERANKED_LINES, spool
from personarank_dagster.storage.tables import Table
from personarank_dagster.vectors.embeddings import made_with


def ranking_settings(config: DatasetConfig) -> dict[str, object]:
    """Settings that decide the lists; the largest cut-off is what a chosen blend aims at."""
    chosen = {"largest_k": max(config.rerank.ks), **bad_row_rules(config)} if _is_chosen(config) else {}
    blend = {"blend": "learned"} if config.rerank.blend == "learned" else {"alpha": config.rerank.alpha}
    return blend | {"user_max_k": config.rerank.user_max_k, "gamma": config.train.gamma} | chosen


def unread_for_ranking(config: DatasetConfig) -> tuple[str, ...]:
    """The ground truth, where it chooses no blend; and the histories, where no blend learns from popularity."""
    truth = () if _is_chosen(config) else ("raw/gt", "split")
    return truth if config.rerank.blend == "learned" else (*truth, "histories")


def _is_chosen(config: DatasetConfig) -> bool:
    return config.rerank.blend == "learned" or config.rerank.alpha == "auto"


@graph_asset(
    group="ranking",
    kinds={"numpy"},
    optional_raw=("gt",),
    instead=("split",),
    unread=unread_for_ranking,
    settings=ranking_settings,
    code_version="3",
    format=lambda schema: RerankedFormat(schemas.RERANKED, exports={f"rerank/{RERANKED_LINES}": RERANKED_LINES}),
    checks=list_checks,
)
def reranked_candidates(
    context: dg.AssetExecutionContext,
    candidates: pl.LazyFrame,
    histories: pl.LazyFrame,
    interaction_cache: VectorTable,
    persona_cache: VectorTable,
    split: pl.DataFrame | None,
    project: ProjectResource,
    gpu: GpuResource,
    compute: ComputeResource,
) -> dg.MaterializeResult[Any]:
    """One row per (user, rank): every candidate list in its new order, with the persona that explains each place.

    From the candidates and both caches; with `alpha: auto` also the ground truth, which chooses the blend, and with
    `blend: learned` the histories too, which say how popular an item is: each user with a ground truth has the blend
    that other users chose, all others have the serving one.
    `out_root/rerank/reranked.jsonl` always links to the current lists.
    """
    step = Step.of(context, project)
    config = step.config
    check_one_encoder(step)
    held_out = None if split is None else split_of_table(split).ground_truth
    rules = _rules(config)
    with ranked_elsewhere(step, compute, "candidates", k=rules.user_max_k, gamma=rules.gamma) as elsewhere:
        ranker = _ranker(rules, interaction_cache, persona_cache, gpu, elsewhere)
        chosen = choose_blend(step, ranker, candidates, histories, held_out)
        reranked = _reranked(ranker, chosen.blend, candidates, config.data.out_root / "scratch")
    numbers = {
        **ranking.coverage(reranked),
        "user_max_k": config.rerank.user_max_k,
        "gamma": config.train.gamma,
        **chosen.numbers,
    }
    pictures: dict[str, Draw] = {
        "movement": partial(movement, reranked),
        "what users see": lambda: example_lists(config.name, reranked, _persona_table(step)),
        "choice": chosen.picture,
    }
    return step.result(reranked, numbers, gpu, pictures=pictures)


@graph_asset(
    group="ranking",
    kinds={"polars"},
    optional_raw=("reviews",),
    settings=lambda config: {"ks": config.rerank.ks, **bad_row_rules(config)},
    code_version="5",
    format=lambda schema: MetricsFormat({f"rerank/{METRICS_JSON}": METRICS_JSON}),
    checks=metric_checks,
)
def rerank_metrics(
    context: dg.AssetExecutionContext,
    reranked_candidates: pl.LazyFrame,
    ground_truth: pl.DataFrame,
    histories: pl.LazyFrame,
    interaction_cache: VectorTable,
    persona_cache: VectorTable,
    project: ProjectResource,
    gpu: GpuResource,
    compute: ComputeResource,
) -> dg.MaterializeResult[Any]:
    """HIT, MRR and NDCG of the candidate order, the reranked order and the controls, for all users and per scenario.

    From the reranked lists and the ground truth; the shuffled control from the caches, popularity from the reviews or
    the histories. `out_root/rerank/metrics.json` always links to the current ones.
    """
    step = Step.of(context, project)
    check_lists_are_by(step)
    raw = step.raw_files()
    reviews = raw.optional("reviews", ingestion.read_reviews, ground_truth=ground_truth)
    interactions = histories.select("user_id", "item_id").collect() if reviews is None else reviews
    rules = msgspec.convert(step.sight.version("reranked_candidates").manifest.provenance.settings, Rules)
    ks = step.config.rerank.ks
    ranks = metrics.hit_ranks(reranked_candidates, ground_truth)
    in_the_same_way = rules.measure(histories, max(ks))
    lists = (reranked_candidates, ground_truth)
    without = rules.measure(histories, max(ks), WITHOUT_PERSONAS) if rules.blend == "learned" else None
    with ranked_elsewhere(step, compute, "reranked_candidates", k=rules.user_max_k, gamma=rules.gamma) as elsewhere:
        ranker = _ranker(rules, interaction_cache, persona_cache, gpu, elsewhere)
        controls = _controls(ranker, lists, interactions, measured=in_the_same_way, without_personas=without)
    if untrained := _untrained(step):
        baseline = _ranker(rules, untrained[0], untrained[1], gpu)
        controls.append(in_the_same_way(baseline, *lists).by_user("untrained"))
    places = metrics.places_by_order(ranks, controls)
    users, scenarios = ranks["user_id"], metrics.scenario_users(interactions, ground_truth)
    others = set_metrics(reranked_candidates, ground_truth, users, ks)
    table = metrics.compare_scenarios(users, places, scenarios, ks, others)
    by_order = {
        order: list_metrics(reranked_candidates, interactions, persona_cache, order=column, ks=ks)
        for order, column in ORDERS.items()
    }
    found = RerankMetrics(
        table=metrics.with_list_metrics(table, by_order),
        coverage=metrics.coverage(reranked_candidates, ground_truth, ranks, ranker.users["user_id"]),
        fingerprints=step.made_from().lineage,
        places=pl.DataFrame({"user_id": users, **places}),
    )
    numbers = _metric_numbers(found) | step.set_aside(raw) | left_out(raw.left_out.get("reviews", {}))
    return step.result(found, numbers, gpu, pictures={"metrics": partial(metric_bars, found.table)})


def _controls(
    ranker: Ranker,
    lists: tuple[pl.LazyFrame, pl.DataFrame],
    interactions: pl.DataFrame,
    *,
    measured: Measure,
    without_personas: Measure | None,
) -> list[pl.DataFrame]:
    """Places of the ground truth in the same lists, in the orders that need no other encoder."""
    controls = [
        shuffled_places(ranker, *lists, measured),
        content_places(ranker, *lists, measured),
        popularity_and_random_places(ranker, *lists, interactions),
    ]
    if without_personas:
        controls.append(without_personas(ranker, *lists).by_user("without_personas"))
    return controls


@graph_asset(
    group="ranking",
    kinds={"polars"},
    settings=no_settings,
    code_version="3",
    format=lambda schema: TableFormat(schemas.REPORT, ["dataset", "version", "scenario", "metric", "k"]),
    checks=(),
    partitions_def=None,
    ins={"rerank_metrics": dg.AssetIn(partition_mapping=dg.AllPartitionMapping())},
    automation_condition=None,
)
def metrics_report(
    context: dg.AssetExecutionContext, rerank_metrics: dict[str, pl.DataFrame], project: ProjectResource
) -> dg.MaterializeResult[Any]:
    """One row per dataset, version, scenario, metric and cut-off: all partitions and their last versions."""
    step = Step.of(context, project)
    tables = [_last_metrics(project.outputs(name), name, table) for name, table in rerank_metrics.items()]
    report = pl.concat(tables) if tables else pl.DataFrame(schema=schemas.REPORT)
    missing = sorted(set(project.mount.datasets) - rerank_metrics.keys())
    for problem in project.problems():
        context.log.warning(f"the report goes without a dataset: {problem}")
    numbers = {"datasets": len(tables), "datasets_without_metrics": len(missing)}
    return step.result(report, numbers, pictures={"metrics": partial(report_lines, report)})


def _last_metrics(outputs: Outputs, dataset: str, current: pl.DataFrame) -> pl.DataFrame:
    """Metrics of all versions that are kept, oldest first; those that another release wrote are passed over."""
    store, form = outputs.versions("rerank_metrics"), outputs.format("rerank_metrics")
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


def _persona_table(step: Step) -> pl.LazyFrame:
    """The personas, for their names: no result is made from them here."""
    version = step.sight.version("personas")
    table: pl.LazyFrame = step.outputs.format("personas").read(version.directory, lazy=True)
    return table


def check_one_encoder(step: Step) -> None:
    """Raise ContractError if the caches are not by one encoder and template: their cosines would mean nothing."""
    spaces = {cache: " ".join(made_with(step.sight.version(cache)).space) for cache in CACHES}
    if len(set(spaces.values())) > 1:
        raise ContractError(
            f"reranked_candidates ({step.snapshot.partition}): both caches must be by one encoder and template, got "
            f"{listed_by_name(spaces)}; materialise both caches"
        )


def check_lists_are_by(step: Step) -> None:
    """Raise ContractError if the lists were ranked with other caches than those that the controls are ranked with."""
    used = step.sight.version("reranked_candidates").manifest.provenance.inputs
    seen = {cache: step.sight.version(cache).manifest.data_version for cache in CACHES}
    if other := [cache for cache, version in seen.items() if used[cache] != version]:
        raise ContractError(
            f"rerank_metrics ({step.snapshot.partition}): the lists must be ranked with the current "
            f"{' and '.join(other)}, and are not; materialise reranked_candidates"
        )


def _untrained(step: Step) -> list[VectorTable] | None:
    """Both caches by the encoder without its heads; None where the encoder behind them has none, or vectors are gone.

    With a model of rerank.yaml the caches are by no heads as they are.
    """
    caches = [step.sight.version(cache) for cache in CACHES]
    by_heads = all(made_with(cache).vectors.partition("-")[0] != made_with(cache).encoder for cache in caches)
    return untrained_tables(step.outputs, caches) if by_heads else None


class Rules(msgspec.Struct, frozen=True):
    """How lists were ranked, by the settings in their manifest."""

    user_max_k: int
    gamma: float
    alpha: Alpha = "auto"
    blend: Literal["alpha", "learned"] = "alpha"

    def measure(self, histories: pl.LazyFrame, k: int, signals: Sequence[str] = SIGNALS) -> Measure:
        """How controls are ranked: in the same way, a blend that learns learned anew."""
        if self.blend == "learned":
            return partial(learn, counts=item_counts(histories), k=k, signals=signals)
        return partial(measure, alpha=self.alpha, k=k)


def _rules(config: DatasetConfig) -> Rules:
    return Rules(config.rerank.user_max_k, config.train.gamma, config.rerank.alpha, config.rerank.blend)


def _ranker(
    rules: Rules,
    interactions: VectorTable,
    personas: VectorTable,
    gpu: GpuResource,
    elsewhere: Elsewhere | None = None,
) -> Ranker:
    k, gamma = rules.user_max_k, rules.gamma
    return Ranker.of(interactions, personas, k=k, gamma=gamma, scorer=_scorer(gpu), elsewhere=elsewhere)


def _reranked(ranker: Ranker, blend: Blend | LearnedBlend, candidates: pl.LazyFrame, scratch: Path) -> Table:
    if ranker.elsewhere:
        return ranker.elsewhere.rerank(blend)
    return spool((blend.rerank(ranker, block) for block in ranking.blocks(candidates)), scratch)


def _scorer(gpu: GpuResource) -> Callable[..., ranking.PersonaScores]:
    """The compiled loop, or torch on a GPU that was asked for by name.

    `auto` takes the loop: on the 16 cores beside an H100 it was faster than the GPU (`python -m benchmarks gpu`).
    """
    if gpu.device != "cuda":
        return ranking.score_on_cores
    from personarank_dagster.encoding.persona_scores import score_on_device

    return score_on_device(gpu.torch_device())


# Of the middle cut-off, what matters first: the published order, its gain, how sure that is, what of it is personal.
HEADLINE = ("reranked", "lift", "lift_low", "lift_high", "personal_lift", "persona_lift")


def _metric_numbers(measured: RerankMetrics) -> dict[str, Any]:
    """Numeric metadata that the UI plots over time: every metric of all users, and who was counted."""
    overall = measured.table.filter(pl.col("scenario") == "all")
    shown = ("candidate", "reranked", "lift", "lift_low", "lift_high", "shuffled", "personal_lift", "persona_lift")
    numbers = {
        f"{order} {metric}@{k}": value
        for order in shown
        for metric, k, value in overall.select("metric", "k", order).drop_nulls().rows()
    }
    headline = [f"{order} NDCG@{metrics.middle_k(overall)}" for order in HEADLINE]
    first = {name: numbers[name] for name in headline if name in numbers}
    moved = {name: overall[name][0] for name in ("moved_up", "moved_down", "unmoved", "ceiling")}
    return first | moved | asdict(measured.coverage) | numbers
