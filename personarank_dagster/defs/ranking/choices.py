"""The blend of a dataset: as its rerank.yaml says, with the numbers and the picture of what was chosen."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import polars as pl

from personarank_dagster.core.errors import ConfigError
from personarank_dagster.defs.platform.figures import Draw
from personarank_dagster.defs.platform.steps import Step
from personarank_dagster.defs.ranking.pictures import alpha_curve, signal_weights
from personarank_dagster.ranking.blending import Blend, measure
from personarank_dagster.ranking.cross_fitting import LearnedBlend, learn_from, lost_without_each, read_lessons
from personarank_dagster.ranking.ranker import Ranker
from personarank_dagster.ranking.signals import SIGNALS, item_counts
from personarank_dagster.raw import ingestion


@dataclass(frozen=True)
class Choice:
    """A blend, numeric metadata, and a picture; the numbers are what `Reranker` goes by."""

    blend: Blend | LearnedBlend
    numbers: dict[str, Any]
    picture: Draw = field(default=lambda: None)


def choose_blend(
    step: Step,
    ranker: Ranker,
    candidates: pl.LazyFrame,
    histories: pl.LazyFrame,
    held_out: pl.DataFrame | None,
) -> Choice:
    """The configured blend; `held_out` is the ground truth where no file has it.

    Raises ConfigError if there is nothing to choose it by.
    """
    rerank, k = step.config.rerank, max(step.config.rerank.ks)
    if rerank.blend == "learned":
        truth, set_aside = _ground_truth(
            step, held_out, "blend must be alpha, and alpha a number in [0, 1],", "learned"
        )
        return _learned(ranker, candidates, truth, item_counts(histories), k, set_aside)
    if rerank.alpha != "auto":
        return Choice(Blend(rerank.alpha), {"serving_alpha": rerank.alpha})
    truth, set_aside = _ground_truth(step, held_out, "alpha must be a number in [0, 1]", "auto")
    blend = measure(ranker, candidates, truth, alpha="auto", k=k).blend
    by_fold = {f"alpha of fold {fold}": alpha for fold, alpha in enumerate(blend.folds)}
    numbers = {"serving_alpha": blend.serving} | by_fold | set_aside
    return Choice(blend, numbers, partial(alpha_curve, blend, k))


def _learned(
    ranker: Ranker,
    candidates: pl.LazyFrame,
    truth: pl.DataFrame,
    counts: pl.DataFrame,
    k: int,
    set_aside: dict[str, Any],
) -> Choice:
    taught = read_lessons(ranker, candidates, truth, counts)
    blend = learn_from(taught, counts=counts, k=k).blend
    lost = lost_without_each(taught, k)
    numbers = {f"serving weight of {name}": float(blend.serving[i]) for i, name in enumerate(SIGNALS)}
    numbers |= {f"standard error of {name}": float(blend.errors[i]) for i, name in enumerate(SIGNALS)}
    numbers |= {f"NDCG@{k} lost without {name}": value for name, value in lost.items()}
    kept = {"folds_that_keep_the_candidate_order": blend.kept_orders}
    return Choice(blend, kept | numbers | set_aside, partial(signal_weights, blend, lost, k))


def _ground_truth(
    step: Step, held_out: pl.DataFrame | None, rule: str, got: str
) -> tuple[pl.DataFrame, dict[str, Any]]:
    raw = step.raw_files()
    truth = raw.optional("gt", ingestion.read_ground_truth) if held_out is None else held_out
    if truth is None:
        raise ConfigError(
            f"{step.config.data_path.with_name('rerank.yaml')}: {rule} where data.yaml names no gt, got {got}, which "
            "is chosen by the ground truth; add gt, or give a number"
        )
    return truth, step.set_aside(raw)
