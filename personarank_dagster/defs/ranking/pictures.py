"""Pictures of the metrics and of the choice of the blend."""

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

import polars as pl

from personarank_dagster.defs.platform.figures import legend_below, new_figure
from personarank_dagster.defs.ranking.examples import MOVED_PLACES, example_users, lists_of
from personarank_dagster.ranking.blending import GRID, Blend
from personarank_dagster.ranking.cross_fitting import LearnedBlend
from personarank_dagster.ranking.metrics import middle_k
from personarank_dagster.storage.tables import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ORDER_COLORS = {
    "candidate": "#9a9a9a",
    "reranked": "#2f6fb0",
    "shuffled": "#c9a4dc",
    "without_personas": "#b9b9d8",
    "content": "#a8cfc7",
    "untrained": "#e3b37f",
    "popularity": "#c8d9c0",
    "random": "#e6e6e6",
}


def alpha_curve(blend: Blend, k: int) -> "Figure | None":
    """Mean NDCG of all measured users over the weight of the persona score, and what was chosen, where it was."""
    if not blend.curve:
        return None
    figure, (axes,) = new_figure()
    axes.plot(GRID, blend.curve, color=ORDER_COLORS["reranked"], marker=".")
    axes.axhline(blend.curve[0], color=ORDER_COLORS["candidate"], lw=1, label="candidate order")
    axes.axvline(blend.serving, color="#555555", lw=1, ls="--", label=f"for serving: {blend.serving:g}")
    folds = ", ".join(f"{alpha:g}" for alpha in blend.folds)
    axes.set(title=f"Choice of alpha; by fold {folds}", xlabel="alpha", ylabel=f"NDCG@{k}")
    legend_below(axes, columns=2)
    return figure


def signal_weights(blend: LearnedBlend, lost: Mapping[str, float], k: int) -> "Figure":
    """The weight of every signal with its standard error, and what NDCG loses without it."""
    figure, (weights, losses) = new_figure(columns=2)
    names = [name.replace("_", " ") for name in lost]
    weights.barh(names, blend.serving, xerr=blend.errors, color=ORDER_COLORS["reranked"], error_kw={"capsize": 2})
    kept = f"; {blend.kept_orders} folds keep the candidate order" if blend.kept_orders else ""
    weights.set(title=f"Weights for serving, standard errors{kept}")
    losses.barh(names, [*lost.values()], color=ORDER_COLORS["shuffled"])
    losses.set(title=f"NDCG@{k} lost without it")
    losses.set_yticklabels([])
    for axes in (weights, losses):
        axes.axvline(0, color="#555555", lw=0.8)
        axes.invert_yaxis()
    return figure


def movement(reranked: Table) -> "Figure | None":
    """How far all users' first places came, and the way of every place of the user whose first places moved most."""
    users = example_users(reranked)
    if not users:
        return None
    figure, (all_users, one_user) = new_figure(columns=2)
    counts = _ways(reranked)
    colors = [
        ORDER_COLORS["reranked" if way > 0 else "shuffled" if way < 0 else "candidate"] for way in counts["way"]
    ]
    all_users.bar(counts["way"], counts["len"], color=colors)
    all_users.set(title=f"First {MOVED_PLACES} places of all users", xlabel="places up", ylabel="how many")
    own = lists_of(reranked, {"one": next(iter(users.values()))}).head(MOVED_PLACES)
    for new, old in own.select("rank", "candidate_rank").rows():
        one_user.plot([0, 1], [old, new], color=ORDER_COLORS["reranked" if new < old else "candidate"], marker=".")
    one_user.set(title="User 1: old and new places", ylabel="place")
    one_user.set_xticks([0, 1], ["before", "after"])
    one_user.set_yticks(sorted({1, *own["candidate_rank"].to_list()}))
    one_user.invert_yaxis()
    return figure


def _ways(reranked: Table) -> pl.DataFrame:
    """How many of the first places came so far up."""
    first = reranked.lazy().filter(pl.col("rank") <= MOVED_PLACES)
    way = pl.col("candidate_rank").cast(pl.Int64) - pl.col("rank").cast(pl.Int64)
    return first.group_by(way=way).len().sort("way").collect(engine="streaming")


def metric_bars(table: pl.DataFrame) -> "Figure":
    """NDCG of every order of all users, and the lift of every scenario with its 95 % interval."""
    k = middle_k(table)
    shown = table.filter((pl.col("metric") == "NDCG") & (pl.col("k") == k))
    figure, (orders, scenarios) = new_figure(columns=2)
    overall = shown.filter(pl.col("scenario") == "all")
    values = {name: overall[name][0] for name in ORDER_COLORS if overall[name][0] is not None}
    bars = orders.barh(list(values), list(values.values()), color=[ORDER_COLORS[name] for name in values])
    orders.bar_label(bars, fmt="%.4f", padding=2, fontsize=8)
    orders.margins(x=0.15)
    orders.invert_yaxis()
    orders.set(title=f"NDCG@{k}, {overall['users'][0]:,} users")
    known = _with_ends(shown)
    scenarios.barh(
        [f"{name} ({users:,})" for name, users in known.select("scenario", "users").rows()],
        known["lift"] * 100,
        xerr=[(known["lift"] - known["lift_low"]) * 100, (known["lift_high"] - known["lift"]) * 100],
        color=ORDER_COLORS["reranked"],
        error_kw={"lw": 1, "capsize": 2},
    )
    scenarios.axvline(0, color="#555555", lw=0.8)
    scenarios.invert_yaxis()
    scenarios.set(title=f"Lift of NDCG@{k}, %, 95 % interval")
    return figure


def _with_ends(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows that have a lift; an interval that is not known is as wide as nothing."""
    ends = (pl.col(name).fill_null(pl.col("lift")) for name in ("lift_low", "lift_high"))
    return rows.filter(pl.col("lift").is_not_null()).with_columns(*ends)


def report_lines(report: pl.DataFrame) -> "Figure | None":
    """A line a dataset: the lift of its versions over time, with their intervals; nothing where there is none."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num

    k = middle_k(report) if report.height else 0
    shown = _with_ends(
        report.filter((pl.col("metric") == "NDCG") & (pl.col("k") == k) & (pl.col("scenario") == "all"))
    )
    if shown.is_empty():
        return None
    figure, (axes,) = new_figure(columns=2, shared=True)
    for (dataset,), versions in shown.sort("version").group_by("dataset", maintain_order=True):
        moments = date2num([_moment(version) for version in versions["version"]])  # type: ignore[no-untyped-call]
        low, high = (versions["lift"] - versions["lift_low"]) * 100, (versions["lift_high"] - versions["lift"]) * 100
        axes.errorbar(moments, versions["lift"] * 100, yerr=[low, high], label=dataset, marker="o", lw=1, capsize=2)
    axes.axhline(0, color="#555555", lw=0.8)
    axes.set(title=f"Lift of NDCG@{k} of each dataset over time, %, 95 % interval")
    axes.xaxis.set_major_locator(locator := AutoDateLocator(minticks=2, maxticks=7))  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    legend_below(axes, columns=3)
    return figure


def _moment(version: str) -> datetime:
    """The moment that the name of a version begins with."""
    return datetime.strptime(version[:15], "%Y%m%dT%H%M%S")
