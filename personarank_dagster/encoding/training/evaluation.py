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

    `rows` are the personas of all items that occur, item by item in `items` (rows,), numbered from 0; `positives`
    and `target_items` (pairs,) point into them; `hard` (pairs, count) are items, -1 where there are no more, and
    `sampled` (count,) are the same for every pair.
    """

    batch: dict[str, Tensor]
    rows: Tensor
    items: Tensor
    positives: Tensor
    target_items: Tensor
    sampled: Tensor
    hard: Tensor

    @property
    def best_by(self) -> str:
        """The metric that chooses the epoch: the ranking that resembles a retriever's list most."""
        return f"ndcg@{RANKED}_hard" if bool((self.hard >= 0).any()) else f"ndcg@{RANKED}_sampled"


def make_validation(pairs: TrainingData, config: TrainConfig) -> Validation:
    """At most MAX_PAIRS pairs, chosen by the seed, and the items that their targets are ranked against."""
    rng = np.random.default_rng([config.seed, len(pairs)])
    if len(pairs) > MAX_PAIRS:
        pairs = pairs.take(np.sort(rng.choice(len(pairs), MAX_PAIRS, replace=False)))
    all_items = np.unique(pairs.persona_items)
    sampled = np.sort(rng.choice(all_items, min(SAMPLED_ITEMS, len(all_items)), replace=False))
    targets = pairs.persona_items[pairs.targets]
    items = np.unique(np.concatenate([sampled, targets, pairs.neighbours[pairs.neighbours >= 0]]))
    rows = np.flatnonzero(np.isin(pairs.persona_items, items))
    return Validation(
        batch=PairCollator(pairs, config.gamma)(range(len(pairs))),
        rows=torch.from_numpy(rows),
        items=_places(pairs.persona_items[rows], items),
        positives=_places(pairs.targets, rows),
        target_items=_places(targets, items),
        sampled=_places(sampled, items),
        hard=torch.where(torch.from_numpy(pairs.neighbours >= 0), _places(pairs.neighbours, items), -1),
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

    accuracy@1 and mrr: the place of the selected persona among the item's own; chance: the accuracy of a random
    choice. ndcg@10: the target item among itself and the sampled or hard items, an item by its best persona.
    standard_error is that of the metric that chooses the epoch, by user.
    """
    own = siblings(validation.items, validation.positives)
    places = _place(cosines, validation.positives, own)
    scores = item_scores(cosines, validation.items, int(validation.items.max()) + 1)
    sampled = torch.zeros_like(scores, dtype=torch.bool)
    sampled[:, validation.sampled] = True
    hard = torch.zeros(len(scores), scores.shape[1] + 1, dtype=torch.bool)
    hard.scatter_(1, validation.hard + 1, True)
    ndcg = {
        f"ndcg@{RANKED}_sampled": _ndcg(_place(scores, validation.target_items, sampled)),
        f"ndcg@{RANKED}_hard": _ndcg(_place(scores, validation.target_items, hard[:, 1:])),
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
    """Place (rows,) of each row's positive among the marked columns, from 1; ties share the better place."""
    better = (scores > scores.gather(1, positives[:, None])) & among
    return better.sum(dim=1) + 1


def _ndcg(places: Tensor) -> Tensor:
    return torch.where(places <= RANKED, 1 / torch.log2(places + 1.0), 0.0)


def _mean(values: Tensor) -> float:
    return float(values.double().mean())


def _mean_cosine(vectors: Tensor) -> float:
    """Mean cosine of two different rows of unit vectors."""
    count = len(vectors)
    total = vectors.double().sum(dim=0).square().sum()
    return float((total - count) / max(1, count * (count - 1)))


def _places(values: IntArray, among: IntArray) -> Tensor:
    return torch.from_numpy(np.searchsorted(among, values))
