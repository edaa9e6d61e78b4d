"""The profile–persona contrastive loss: pure functions of tensors."""

import torch
from torch import Tensor
from torch.nn.functional import normalize


def weighted_profiles(vectors: Tensor, weights: Tensor) -> Tensor:
    """Unit profiles (profiles, dim): sums of vectors (texts, dim) with weights (profiles, texts).

    A matrix product, because the gradient of gathering rows would be summed in no fixed order.
    """
    return normalize(weights @ vectors, dim=1)


def info_nce(
    scores: Tensor, positives: Tensor, *, excluded: Tensor, temperature: float, label_smoothing: float = 0.0
) -> Tensor:
    """Mean over rows of -log softmax of the positive's score / temperature, among the columns not excluded.

    scores (batch, columns) are cosines; positives (batch,) are columns; excluded (batch, columns) marks false
    negatives, never a positive. Label smoothing spreads its share evenly over the columns that are left.
    """
    log_probabilities = (scores / temperature).masked_fill(excluded, -torch.inf).log_softmax(dim=1)
    positive = log_probabilities.gather(1, positives[:, None]).squeeze(1)
    if label_smoothing:
        kept = log_probabilities.masked_fill(excluded, 0).sum(dim=1) / (~excluded).sum(dim=1)
        positive = (1 - label_smoothing) * positive + label_smoothing * kept
    return -positive.mean()


def item_scores(cosines: Tensor, items: Tensor, num_items: int) -> Tensor:
    """Score (batch, num_items) of each item: the highest of its personas' cosines (batch, personas).

    items (personas,) number from 0, and each has a persona.
    """
    columns = items.expand(len(cosines), -1)
    start = cosines.new_full((len(cosines), num_items), -torch.inf)
    return start.scatter_reduce(1, columns, cosines, "amax")


def listwise_scores(cosines: Tensor, positives: Tensor, own: Tensor, items: Tensor) -> Tensor:
    """Scores (batch, items): the positive persona's for its item, the best persona's for every other.

    cosines (batch, personas); positives (batch,) are personas, -1 where the best one counts for the own item too; own
    (batch,) are the items of the positives; items (personas,) number from 0 without gaps.
    """
    scores = item_scores(cosines, items, int(items.max()) + 1)
    selected = cosines.gather(1, positives.clamp(min=0)[:, None])
    best = scores.gather(1, own[:, None])
    return scores.scatter(1, own[:, None], torch.where((positives >= 0)[:, None], selected, best))


def siblings(items: Tensor, positives: Tensor) -> Tensor:
    """Personas (batch, personas) of the same item as the row's positive, itself included; items (personas,)."""
    return items[None, :] == items[positives][:, None]


def same_user(users: Tensor, positives: Tensor, num_columns: int) -> Tensor:
    """Columns (batch, columns) that are the positive of any row of the same user; users (batch,)."""
    rows, others = torch.nonzero(users[:, None] == users[None, :], as_tuple=True)
    mask = torch.zeros(len(users), num_columns, dtype=torch.bool, device=users.device)
    mask[rows, positives[others]] = True
    return mask


def above_positive_share(scores: Tensor, positives: Tensor, threshold: float) -> Tensor:
    """Columns (batch, columns) with a score above threshold * the positive's: probably false negatives."""
    fixed = scores.detach()
    return fixed > threshold * fixed.gather(1, positives[:, None])


def not_neighbours(items: Tensor, neighbours: Tensor) -> Tensor:
    """Columns (batch, columns) whose item is none of the row's neighbours (batch, count); items (columns,).

    Neighbours of -1 are none.
    """
    near = torch.zeros(len(neighbours), int(items.max()) + 2, dtype=torch.bool, device=items.device)
    # The first column takes what is no item here.
    near.scatter_(1, (neighbours + 1).where(neighbours <= items.max(), 0), True)
    return ~near[:, items + 1]


def with_a_negative(excluded: Tensor, scores: Tensor, positives: Tensor) -> Tensor:
    """The mask with every positive kept and, in a row that keeps nothing else, the column of the lowest score.

    Where there is no other column at all the loss of a row is 0.
    """
    kept = excluded.scatter(1, positives[:, None], False)
    alone = (~kept).sum(dim=1, keepdim=True) == 1
    others = scores.detach().scatter(1, positives[:, None], torch.inf)
    lowest = torch.zeros_like(kept).scatter(1, others.argmin(dim=1, keepdim=True), True)
    return kept & ~(alone & lowest)
