"""How much the persona score counts: a number, or chosen so that no user's list is measured by what it chose."""

import zlib
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from personarank_dagster.core.profiles import FloatArray, IntArray
from personarank_dagster.ranking.ranker import Lists, Ranker, Scores, blocks, read_only

Alpha = float | Literal["auto"]

# Weights that `auto` chooses from; 0 is the candidate order.
GRID = tuple(step / 20 for step in range(21))
NUM_FOLDS = 5


@dataclass(frozen=True)
class Blend:
    """The weight of the persona score.

    A number is the same for all. Chosen, it is `serving`, by all users with a ground truth; but each of these
    (`measured`) has the value of its fold, which the users of the other folds chose. `curve` is the mean NDCG of all
    for each value of `GRID`.
    """

    serving: float
    folds: tuple[float, ...] = ()
    curve: tuple[float, ...] = ()
    measured: pl.Series = field(default_factory=lambda: pl.Series(dtype=pl.String))

    def alphas_of(self, users: pl.Series) -> Scores:
        """The weight for each user."""
        alphas = np.full(len(users), self.serving)
        if self.folds:
            measured = users.is_in(self.measured.implode()).to_numpy()
            alphas[measured] = np.array(self.folds)[folds_of(users.filter(measured))]
        return alphas

    def rerank(self, ranker: Ranker, candidates: pl.DataFrame) -> pl.DataFrame:
        """Reorder candidate lists; columns of `schemas.RERANKED`."""
        return ranker.rerank(candidates, self.alphas_of)


BlendT = TypeVar("BlendT")


@dataclass(frozen=True)
class Measured(Generic[BlendT]):
    """Place of the best ground-truth item of each user, from 1, and 0 where it is not listed; and the blend."""

    users: pl.Series
    places: IntArray
    blend: BlendT

    def by_user(self, order: str) -> pl.DataFrame:
        """user_id, and the places under the name of the order."""
        return pl.DataFrame({"user_id": self.users, order: self.places})


def measure(
    ranker: Ranker, candidates: pl.DataFrame | pl.LazyFrame, ground_truth: pl.DataFrame, *, alpha: Alpha, k: int
) -> Measured[Blend]:
    """Rerank the lists of users with a ground truth, and find its places. A chosen blend aims at NDCG@k.

    `candidates` may be reranked lists: ties are broken by the candidate rank, whatever the order of the rows.
    """
    grid = GRID if alpha == "auto" else (alpha,)
    users, places = places_by_alpha(ranker, candidates, ground_truth, grid)
    if alpha != "auto":
        return Measured(users, places[:, 0], Blend(alpha))
    gains = ndcg(places, k)
    folds = folds_of(users)
    chosen = np.array([choose(gains[folds != fold]) for fold in range(NUM_FOLDS)])
    curve = gains.mean(axis=0) if len(users) else np.zeros(len(GRID))
    blend = Blend(GRID[choose(gains)], tuple(GRID[i] for i in chosen), tuple(float(mean) for mean in curve), users)
    return Measured(users, places[np.arange(len(users)), chosen[folds]], blend)


def choose(gains: Scores) -> int:
    """The smallest weight whose mean gain is not below the best one's by more than a standard error.

    `gains` (users, weights), smallest weight first. The error is that of the paired difference. Without users 0.
    """
    if len(gains) < 2:
        return 0
    behind = gains[:, [int(gains.mean(axis=0).argmax())]] - gains
    errors = behind.std(axis=0, ddof=1) / np.sqrt(len(gains))
    return int(np.argmax(behind.mean(axis=0) <= errors))


def ndcg(places: IntArray, k: int) -> Scores:
    """NDCG@k of single places; 0 beyond k and where none is listed."""
    gains: Scores = np.where((places > 0) & (places <= k), 1 / np.log2(np.maximum(places, 1) + 1), 0.0)
    return gains


def folds_of(users: pl.Series) -> IntArray:
    """Fold of each user, by a hash of the id, so that other users do not change it."""
    return np.array([zlib.crc32(user.encode()) % NUM_FOLDS for user in users], dtype=np.int64)


def places_by_alpha(
    ranker: Ranker, candidates: pl.DataFrame | pl.LazyFrame, ground_truth: pl.DataFrame, alphas: tuple[float, ...]
) -> tuple[pl.Series, IntArray]:
    """Users with both a list and a ground truth, and the places (users, alphas) of its best item."""
    if ranker.elsewhere:
        return ranker.elsewhere.places(ground_truth, alphas)
    users, places = [pl.Series("user_id", dtype=pl.String)], [np.empty((0, len(alphas)), np.int64)]
    for block in measured_blocks(candidates, ground_truth):
        lists = ranker.lists(block)
        scores = ranker.score(lists).scores
        places.append(target_places(lists, block, block["candidate_score"].to_numpy(), scores, alphas))
        users.append(block["user_id"].gather(lists.offsets[:-1]))
    return pl.concat(users), np.concatenate(places)


def measured_blocks(candidates: pl.DataFrame | pl.LazyFrame, ground_truth: pl.DataFrame) -> Any:
    """Blocks of the lists of users with a ground truth; `is_target` marks it."""
    targets = ground_truth.select("user_id", "item_id").unique().with_columns(is_target=True)
    for block in blocks(candidates):
        measured = _in_candidate_order(block.join(ground_truth, on="user_id", how="semi", maintain_order="left"))
        if measured.height:
            marked = measured.join(targets, on=["user_id", "item_id"], how="left", maintain_order="left")
            yield marked.with_columns(pl.col("is_target").fill_null(False))


def _in_candidate_order(block: pl.DataFrame) -> pl.DataFrame:
    return block.with_columns(user=pl.col("user_id").rle_id()).sort("user", "candidate_rank").drop("user")


def target_places(
    lists: Lists, block: pl.DataFrame, candidate_scores: Scores, persona_scores: FloatArray, alphas: tuple[float, ...]
) -> IntArray:
    """Place (from 1) of each list's best target under each weight, 0 where none is listed."""
    from personarank_dagster.ranking import kernels

    place_targets: Any = kernels.place_targets
    places = np.empty((len(lists), len(alphas)), np.int64)
    is_target: npt.NDArray[np.bool_] = block["is_target"].to_numpy()
    inputs = read_only(lists.offsets, candidate_scores, persona_scores, is_target, np.array(alphas, np.float64))
    place_targets(*inputs, places)
    return places
