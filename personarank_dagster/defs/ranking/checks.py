"""Checks of the reranked lists and their metrics, after they are published."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg
import msgspec
import polars as pl

from personarank_dagster.defs.platform.formats import METRICS_JSON, ORDERS
from personarank_dagster.defs.platform.published_checks import Found, Published, published_check
from personarank_dagster.ranking import metrics
from personarank_dagster.storage.reranked import RERANKED_LINES, read_reranked_lines
from personarank_dagster.vectors.embeddings import made_with

ROUNDING = 1e-9
CACHES = ("interaction_cache", "persona_cache")


@dataclass(frozen=True)
class RankingSubject(Published):
    """The published lists and metrics of one dataset."""

    def metrics_document(self) -> dict[str, Any]:
        """Content of metrics.json."""
        path = self.version("rerank_metrics").directory / METRICS_JSON
        document: dict[str, Any] = msgspec.json.decode(path.read_bytes())
        return document


def metrics_lie_within_bounds(published: RankingSubject) -> Found:
    """Every metric lies in [0, 1], does not fall with k, and MRR <= NDCG <= HIT."""
    return within_bounds(published.table("rerank_metrics").collect())


def within_bounds(table: pl.DataFrame) -> Found:
    """See above, of a table of metrics."""
    rows = table.unpivot(ORDERS, index=["scenario", "metric", "k"], variable_name="order").drop_nulls("value")
    outside = rows.filter(~pl.col("value").is_between(0, 1) & pl.col("value").is_not_nan())
    grown = rows.sort("k").with_columns(step=pl.col("value").diff().over("scenario", "metric", "order"))
    falling = grown.filter(pl.col("step") < -ROUNDING)
    by_name = rows.pivot("metric", index=["scenario", "order", "k"], values="value")
    crossed = by_name.filter(
        (pl.col("MRR") > pl.col("NDCG") + ROUNDING) | (pl.col("NDCG") > pl.col("HIT") + ROUNDING)
    )
    numbers = {"outside_0_1": outside.height, "falling_with_k": falling.height, "out_of_order": crossed.height}
    return Found(not any(numbers.values()), numbers | {"metrics": rows.height})


def every_candidate_is_there_once(published: RankingSubject) -> Found:
    """The reranked lists hold the candidates of every user, each once, and nothing else."""
    return same_pairs(published.table("candidates"), published.table("reranked_candidates"))


def same_pairs(candidates: pl.LazyFrame, reranked: pl.LazyFrame) -> Found:
    """See above, of both tables."""
    key = ["user_id", "item_id"]
    missing = candidates.join(reranked, on=key, how="anti").select(pl.len()).collect(engine="streaming").item()
    foreign = reranked.join(candidates, on=key, how="anti").select(pl.len()).collect(engine="streaming").item()
    rows, before = (table.select(pl.len()).collect().item() for table in (reranked, candidates))
    numbers = {"candidates": before, "reranked": rows, "missing": missing, "foreign": foreign}
    return Found(rows == before and not missing and not foreign, numbers)


def users_are_counted_exactly(published: RankingSubject) -> Found:
    """The users of the metrics, and those left out, are all users with a list or a ground truth."""
    lists = published.table("reranked_candidates").select("user_id").unique().collect(engine="streaming")["user_id"]
    truth = published.table("ground_truth").select("user_id").unique().collect()["user_id"]
    return counted(lists, truth, published.metrics_document())


def counted(lists: pl.Series, truth: pl.Series, document: Mapping[str, Any]) -> Found:
    """See above, of the users of both tables and the metrics."""
    both = int(truth.is_in(lists.implode()).sum())
    expected = {
        "users": both,
        "users_without_candidates": len(truth) - both,
        "users_without_ground_truth": len(lists) - both,
    }
    got = {name: document["coverage"][name] for name in expected}
    return Found(got == expected and document["users"] == both, {**expected, "users_of_metrics": document["users"]})


def reranked_is_not_below_candidates(published: RankingSubject) -> Found:
    """No metric of all users is below that of the candidate order by more than chance: its interval reaches 0."""
    return not_below(published.table("rerank_metrics").collect())


def not_below(table: pl.DataFrame) -> Found:
    """See above, of a table of metrics."""
    known = table.filter((pl.col("scenario") == "all") & pl.col("lift").is_not_null())
    below = known.filter(pl.col("lift_high") < 0)
    intervals = {
        f"{row['metric']}@{row['k']}": f"{row['lift']:+.1%} [{row['lift_low']:+.1%}, {row['lift_high']:+.1%}]"
        for row in known.iter_rows(named=True)
    }
    return Found(below.is_empty(), {"below": below.height, **intervals})


def lists_are_by_the_current_encoder(published: RankingSubject) -> Found:
    """Both caches are by one encoder and template, and the lists were ranked with these caches."""
    spaces = {cache: made_with(published.version(cache)).space for cache in CACHES}
    used = published.version("reranked_candidates").manifest.provenance.inputs
    current = {cache: published.version(cache).manifest.data_version for cache in CACHES}
    return of_one_encoder(spaces, used, current)


def of_one_encoder(
    spaces: Mapping[str, tuple[str, ...]], used: Mapping[str, str], current: Mapping[str, str]
) -> Found:
    """See above: what each cache was made with, the caches that the lists used, and the current ones."""
    other = [cache for cache, version in current.items() if used.get(cache) != version]
    names = {cache: " ".join(space) for cache, space in spaces.items()}
    return Found(len(set(spaces.values())) == 1 and not other, {**names, "ranked_with_other": ", ".join(other)})


def metrics_follow_from_the_published_file(published: RankingSubject) -> Found:
    """Metrics computed anew from reranked.jsonl and the ground truth are those of metrics.json."""
    lines = read_reranked_lines(published.version("reranked_candidates").directory / RERANKED_LINES)
    return recomputed(lines, published.table("ground_truth").collect(), published.metrics_document())


def recomputed(lines: pl.DataFrame, truth: pl.DataFrame, document: Mapping[str, Any]) -> Found:
    """See above, of the published lists."""
    ranks = metrics.hit_ranks(lines, truth)
    ks = sorted({int(re.sub(r".*@", "", name)) for name in document["candidate"]})
    largest = 0.0
    for order in ("candidate", "reranked"):
        anew = metrics.metrics_at(metrics.place_numbers(ranks[order]), ks)
        largest = max(largest, *(abs(anew[name] - document[order][name]) for name in anew))
    return Found(largest <= ROUNDING, {"users": ranks.height, "largest_difference": largest})


CHECKS: dict[Callable[[RankingSubject], Found], tuple[str, tuple[str, ...], dg.AssetCheckSeverity]] = {
    every_candidate_is_there_once: ("reranked_candidates", ("candidates",), dg.AssetCheckSeverity.ERROR),
    lists_are_by_the_current_encoder: ("reranked_candidates", CACHES, dg.AssetCheckSeverity.ERROR),
    metrics_lie_within_bounds: ("rerank_metrics", (), dg.AssetCheckSeverity.ERROR),
    users_are_counted_exactly: (
        "rerank_metrics",
        ("reranked_candidates", "ground_truth"),
        dg.AssetCheckSeverity.ERROR,
    ),
    reranked_is_not_below_candidates: ("rerank_metrics", (), dg.AssetCheckSeverity.WARN),
    metrics_follow_from_the_published_file: (
        "rerank_metrics",
        ("reranked_candidates", "ground_truth"),
        dg.AssetCheckSeverity.ERROR,
    ),
}


def _ranking_check(
    check: Callable[[RankingSubject], Found], asset: str, needs: tuple[str, ...], severity: dg.AssetCheckSeverity
) -> dg.AssetChecksDefinition:
    return published_check(
        asset,
        lambda found: check(RankingSubject(found.project, found.gpu, found.partition)),
        name=check.__name__,
        description=check.__doc__,
        needs=needs,
        severity=severity,
    )


ranking_checks = [_ranking_check(check, *about) for check, about in CHECKS.items()]
