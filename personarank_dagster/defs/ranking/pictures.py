"""Pictures of the metrics and of the choice of the blend."""

from datetime import datetime
from typing import TYPE_CHECKING

import polars as pl

from personarank_dagster.defs.platform.figures import HEIGHT, legend_below, new_figure
from personarank_dagster.ranking.blending import GRID, Blend

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ORDER_COLORS = {
    "candidate": "#9a9a9a",
    "reranked": "#2f6fb0",
    "shuffled": "#c9a4dc",
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


def metric_bars(table: pl.DataFrame) -> "Figure":
    """NDCG of every order of all users, and the lift of every scenario with its 95 % interval."""
    k = _middle(table)
    shown = table.filter((pl.col("metric") == "NDCG") & (pl.col("k") == k))
    figure, (orders, scenarios) = new_figure(columns=2)
    overall = shown.filter(pl.col("scenario") == "all")
    values = {name: overall[name][0] for name in ORDER_COLORS if overall[name][0] is not None}
    bars = orders.barh(list(values), list(values.values()), color=[ORDER_COLORS[name] for name in values])
    orders.bar_label(bars, fmt="%.4f", padding=2, fontsize=8)
    orders.margins(x=0.15)
    orders.invert_yaxis()
    orders.set(title=f"NDCG@{k}, {overall['users'][0]:,} users")
    known = shown.filter(pl.col("lift").is_not_null())
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


def report_bars(report: pl.DataFrame) -> "Figure | None":
    """Lift of every dataset, its versions side by side, the newest last; nothing where there is none."""
    if report.is_empty():
        return None
    k = _middle(report)
    shown = report.filter(
        (pl.col("metric") == "NDCG")
        & (pl.col("k") == k)
        & (pl.col("scenario") == "all")
        & pl.col("lift").is_not_null()
    )
    figure, (axes,) = new_figure(height=max(HEIGHT, 0.3 * shown.height))
    labels = [f"{row['dataset']} {_moment(row['version'])}" for row in shown.iter_rows(named=True)]
    errors = [(shown["lift"] - shown["lift_low"]) * 100, (shown["lift_high"] - shown["lift"]) * 100]
    colors = [ORDER_COLORS["reranked" if current else "candidate"] for current in shown["current"]]
    axes.barh(labels, shown["lift"] * 100, xerr=errors, color=colors, error_kw={"lw": 1, "capsize": 2})
    axes.axvline(0, color="#555555", lw=0.8)
    axes.invert_yaxis()
    axes.set(title=f"Lift of NDCG@{k}, %, 95 % interval")
    return figure


def _moment(version: str) -> str:
    """Day and time that the name of a version begins with."""
    return f"{datetime.strptime(version[:13], '%Y%m%dT%H%M'):%Y-%m-%d %H:%M}"


def _middle(table: pl.DataFrame) -> int:
    """The cut-off that is shown: the one in the middle."""
    ks = table["k"].unique().sort()
    return int(ks[len(ks) // 2])
