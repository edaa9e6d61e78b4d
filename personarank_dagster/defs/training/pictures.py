"""Pictures of a training."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from personarank_dagster.defs.platform.figures import legend_below, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def training_curves(record: Mapping[str, Any]) -> "Figure":
    """The loss of every step; beside it, where users were held out, their metrics and the step that counts."""
    losses, refit_losses = record["losses"], record["refit_losses"]
    evaluations, best_step = record["evaluations"], record["best_step"]
    figure, (loss, *metric) = new_figure(columns=2 if evaluations else 1)
    loss.plot(range(1, len(losses) + 1), losses, label="with held-out users")
    if refit_losses:
        loss.plot(range(1, len(refit_losses) + 1), refit_losses, label="on all users")
        legend_below(loss, columns=2)
    loss.set(title="loss", xlabel="step")
    for axes in metric:
        for name in ("accuracy@1", "ndcg@10_sampled", "ndcg@10_hard", "ndcg@10_blend"):
            steps, values = zip(*((entry["step"], entry[name]) for entry in evaluations), strict=True)
            axes.plot(steps, values, label=name, marker=".")
        axes.axvline(best_step, color="#555555", lw=1, ls="--")
        best = f"step {best_step}" if best_step else "the untrained encoder"
        axes.set(title=f"held-out users; counts: {best}", xlabel="step")
        legend_below(axes, columns=2)
    return figure
