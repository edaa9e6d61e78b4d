"""How well an encoder does on users that it was not trained on."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from personarank_dagster.configuration.settings import TrainConfig
from personarank_dagster.core.profiles import IntArray
from personarank_dagster.encoding.training.batches import PairCollator, TrainingData
from personarank_dagster.encoding.training.loss import item_scores, siblings, weighted_profiles
from personarank_dagster.encoding.training.models import ProfilePersonaModel

Metrics = dict[str, float]

MAX_PAIRS = 2000
SAMPLED_ITEMS = 100
RANKED = 10


@dataclass(frozen=True)
class Validation:
    """Pairs of held-out users as one batch, and what their targets are ranked against.

    `rows` are the personas of all items that occur, item by item in `items` (rows,), numbered from 0;
    `positives`, -1 where none was selected, and `target_items` (pairs,) point into them; `hard` (pairs, count)
    are items, -1 where there are no more, `nearness` (pairs, count + 1) theirs and the target's, and `sampled`
    (count,) are the same for every pair.
    """

    batch: dict[str, Tensor]
    rows: Tensor
    items: Tensor
    positives: Tensor
    target_items: Tensor
    sampled: Tensor
    hard: Tensor
    nearness: Tensor

    @property
    def best_by(self) -> str:
        """The metric that chooses the epoch: the ranking that resembles a reranked list most."""
        return f"ndcg@{RANKED}_blend" if bool((self.hard >= 0).any()) else f"ndcg@{RANKED}_sampled"


def make_validation(pairs: TrainingData, config: TrainConfig) -> Validation:
    """At most MAX_PAIRS pairs, chosen by the seed, and the items that their targets are ranked against."""
    rng = np.random.default_rng([config.seed, len(pairs)])
    if len(pairs) > MAX_PAIRS:
        pairs = pairs.take(np.sort(rng.choice(len(pairs), MAX_PAIRS, replace=False)))
    all_items = np.unique(pairs.persona_items)
    sampled = np.sort(rng.choice(all_items, min(SAMPLED_ITEMS, len(all_items)), replace=False))
    targets = pairs.target_items
    items = np.unique(np.concatenate([sampled, targets, pairs.neighbours[pairs.neighbours >= 0]]))
    rows = np.flatnonzero(np.isin(pairs.persona_items, items))
    return Validation(
        batch=PairCollator(pairs, config.gamma)(range(len(pairs))),
        rows=torch.from_numpy(rows),
        items=_places(pairs.persona_items[rows], items),
        positives=torch.where(torch.from_numpy(pairs.targets >= 0), _places(pairs.targets, rows), -1),
        target_items=_places(targets, items),
        sampled=_places(sampled, items),
        hard=torch.where(torch.from_numpy(pairs.neighbours >= 0), _places(pairs.neighbours, items), -1),
        nearness=torch.from_numpy(pairs.nearness),
    )


def evaluate(model: ProfilePersonaModel, validation: Validation) -> Metrics:
    """Metrics of the model as it is, without dropout and without gradient."""
    was_training, device = model.training, model.persona_items.device
    model.eval()
    with torch.no_grad():
        texts = model.interactions(validation.batch["texts"].to(device))
        profiles = weighted_profiles(texts, validation.batch["text_weights"].to(device))
        personas = model.personas(validation.rows.to(device))
    model.train(was_training)
    spread = _mean_cosine(personas.cpu())
    return measure(validation, (profiles @ personas.T).float().cpu()) | {"mean_persona_cosine": spread}


def measure(validation: Validation, cosines: Tensor) -> Metrics:
    """Metrics of cosines (pairs, personas).

    accuracy@1 and mrr: the place of the selected persona among the item's own, of pairs that have one; chance:
    the accuracy of a random choice. ndcg@10: the target item among itself and the sampled or hard items, an item
    by its best persona; in the blend, half by that and half by how near a retriever finds it, each between the
    least and most of the list.
    standard_error is that of the metric that chooses the epoch, by user.
    """
    selected = validation.positives >= 0
    positives = validation.positives[selected]
    own = siblings(validation.items, positives)
    places = _place(cosines[selected], positives, own)
    scores = item_scores(cosines, validation.items, int(validation.items.max()) + 1)
    sampled = torch.zeros_like(scores, dtype=torch.bool)
    sampled[:, validation.sampled] = True
    hard = torch.zeros(len(scores), scores.shape[1] + 1, dtype=torch.bool)
    hard.scatter_(1, validation.hard + 1, True)
    ndcg = {
        f"ndcg@{RANKED}_sampled": _ndcg(_place(scores, validation.target_items, sampled)),
        f"ndcg@{RANKED}_hard": _ndcg(_place(scores, validation.target_items, hard[:, 1:])),
        f"ndcg@{RANKED}_blend": _ndcg(_blended_place(scores, validation)),
    }
    return {
        "accuracy@1": _mean(places == 1),
        "mrr": _mean(1 / places),
        "chance": _mean(1 / own.sum(dim=1)),
        **{name: _mean(values) for name, values in ndcg.items()},
        "standard_error": standard_error(ndcg[validation.best_by], validation.batch["users"]),
    }


def standard_error(values: Tensor, users: Tensor) -> float:
    """Standard error of the mean of values (pairs,) in [0, 1], where only the users (pairs,) are independent.

    The pairs of a user share most of a profile, so what counts is how far each user's sum is from its expectation:
    sqrt(n / (n - 1) * sum over users of (sum of value - mean)^2) / pairs. With a pair a user it is the usual one. A
    single user says nothing of others: 1, as large as any difference.
    """
    found = values.double().numpy()
    user_of_pair = np.unique(users.numpy(), return_inverse=True)[1]
    sums = np.bincount(user_of_pair, weights=found - found.mean())
    if len(sums) == 1:
        return 1.0
    return float(np.sqrt(np.square(sums).sum() * len(sums) / (len(sums) - 1)) / len(found))


def _place(scores: Tensor, positives: Tensor, among: Tensor) -> Tensor:
    """Place (rows,) of each row's positive among the marked columns, from 1.

    It stands in the middle of those that it ties with, so that scores that are all alike are worth what chance is;
    and after all others where it has no score.
    """
    column = positives[:, None]
    scores = scores.masked_fill(~scores.isfinite(), -torch.inf)
    own, others = scores.gather(1, column), among.scatter(1, column, False)
    better, alike = ((scores > own) & others).sum(dim=1), ((scores == own) & others).sum(dim=1)
    return 1 + better + torch.where(own[:, 0].isfinite(), alike / 2, alike)


def _blended_place(scores: Tensor, validation: Validation) -> Tensor:
    """Place (rows,) of each target among the hard items, in a list that its retriever has a half share in."""
    listed = torch.cat([validation.hard, validation.target_items[:, None]], dim=1)
    known = listed >= 0
    personas = scores.gather(1, listed.clamp(min=0)).double()
    blend = _minmax(personas, known) + _minmax(validation.nearness.double(), known)
    return _place(blend, torch.full((len(blend),), blend.shape[1] - 1), known)


def _minmax(values: Tensor, known: Tensor) -> Tensor:
    """Values (rows, columns) between the least and most of the known ones of a row; 0.5 where all are equal."""
    low = values.masked_fill(~known, torch.inf).amin(dim=1, keepdim=True)
    high = values.masked_fill(~known, -torch.inf).amax(dim=1, keepdim=True)
    return torch.where(high > low, (values - low) / (high - low).clamp(min=1e-12), 0.5)


def _ndcg(places: Tensor) -> Tensor:
    return torch.where(places <= RANKED, 1 / torch.log2(places + 1.0), 0.0)


def _mean(values: Tensor) -> float:
    """Of nothing 0."""
    return float(values.double().mean()) if len(values) else 0.0


def _mean_cosine(vectors: Tensor) -> float:
    """Mean cosine of two different rows of unit vectors."""
    count = len(vectors)
    total = vectors.double().sum(dim=0).square().sum()
    return float((total - count) / max(1, count * (count - 1)))


def _places(values: IntArray, among: IntArray) -> Tensor:
    return torch.from_numpy(np.searchsorted(among, values))
