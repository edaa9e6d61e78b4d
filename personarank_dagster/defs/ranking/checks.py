"""Checks of the reranked lists and their metrics, after they are published."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg
import msgspec
import polars as pl

from personarank_dagster.core.quantities import interval, percent
from personarank_dagster.defs.platform.declarations import Check, Found
from personarank_dagster.defs.platform.io.formats import METRICS_JSON, ORDERS
from personarank_dagster.defs.platform.published_checks import Published
from personarank_dagster.ranking import metrics
from personarank_dagster.storage.reranked import RERANKED_LINES, read_reranked_lines

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
    """Every metric of hits lies in [0, 1], does not fall with k, and MRR <= NDCG <= HIT."""
    return within_bounds(published.table("rerank_metrics").collect())


def within_bounds(table: pl.DataFrame) -> Found:
    """See above, of a table of metrics."""
    hits = table.filter(pl.col("metric").is_in(metrics.METRIC_NAMES))
    rows = hits.unpivot(ORDERS, index=["scenario", "metric", "k"], variable_name="order").drop_nulls("value")
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
        f"{row['metric']}@{row['k']}": " ".join(
            (percent(row["lift"], signed=True), interval(row["lift_low"], row["lift_high"]))
        )
        for row in known.drop_nulls("lift_low").iter_rows(named=True)
    }
    return Found(below.is_empty(), {"below": below.height, **intervals})


def lists_are_by_the_current_encoder(published: RankingSubject) -> Found:
    """Lists, caches and encoder belong together: the lists were ranked with these caches, and these are by it."""
    current = {asset: published.version(asset).manifest.data_version for asset in ("trained_encoder", *CACHES)}
    behind = published.version("reranked_candidates").manifest.provenance.lineage
    return of_one_encoder(behind, current)


def of_one_encoder(behind: Mapping[str, str], current: Mapping[str, str]) -> Found:
    """See above: the data versions behind the lists, and the current ones."""
    other = [asset for asset, version in current.items() if behind.get(asset) != version]
    return Found(not other, {"ranked_with_other": ", ".join(other)})


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


def _check(
    asset: str,
    find: Callable[[RankingSubject], Found],
    *needs: str,
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR,
) -> Check:
    return Check(
        name=find.__name__,
        asset=asset,
        find=lambda found: find(RankingSubject(found.sight, found.gpu, found.judged)),
        description=find.__doc__,
        needs=needs,
        severity=severity,
    )


list_checks = (
    _check("reranked_candidates", every_candidate_is_there_once, "candidates"),
    _check("reranked_candidates", lists_are_by_the_current_encoder, "trained_encoder", *CACHES),
)

metric_checks = (
    _check("rerank_metrics", metrics_lie_within_bounds),
    _check("rerank_metrics", users_are_counted_exactly, "reranked_candidates", "ground_truth"),
    _check("rerank_metrics", reranked_is_not_below_candidates, severity=dg.AssetCheckSeverity.WARN),
    _check("rerank_metrics", metrics_follow_from_the_published_file, "reranked_candidates", "ground_truth"),
)
