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
    profiles: Tensor,
    personas: Tensor,
    positives: Tensor,
    *,
    excluded: Tensor,
    temperature: float,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Mean over rows of -log softmax of the positive's cosine / temperature, among the personas not excluded.

    profiles (batch, dim) and personas (personas, dim) have unit length; positives (batch,) are persona rows;
    excluded (batch, personas) marks false negatives, never a positive. Label smoothing spreads its share evenly
    over the personas that are left.
    """
    logits = profiles @ personas.T / temperature  # (batch, personas)
    log_probabilities = logits.masked_fill(excluded, -torch.inf).log_softmax(dim=1)
    positive = log_probabilities.gather(1, positives[:, None]).squeeze(1)
    if label_smoothing:
        kept = log_probabilities.masked_fill(excluded, 0).sum(dim=1) / (~excluded).sum(dim=1)
        positive = (1 - label_smoothing) * positive + label_smoothing * kept
    return -positive.mean()


def siblings(items: Tensor, positives: Tensor) -> Tensor:
    """Personas (batch, personas) of the same item as the row's positive, itself included; items (personas,)."""
    return items[None, :] == items[positives][:, None]


def same_user(users: Tensor, positives: Tensor, num_personas: int) -> Tensor:
    """Personas (batch, personas) that are the positive of any row of the same user; users (batch,)."""
    rows, others = torch.nonzero(users[:, None] == users[None, :], as_tuple=True)
    mask = torch.zeros(len(users), num_personas, dtype=torch.bool, device=users.device)
    mask[rows, positives[others]] = True
    return mask


def above_positive_share(profiles: Tensor, personas: Tensor, positives: Tensor, threshold: float) -> Tensor:
    """Personas (batch, personas) with a cosine above threshold * the positive's: probably false negatives."""
    cosines = (profiles @ personas.T).detach()
    return cosines > threshold * cosines.gather(1, positives[:, None])


def without_positives(excluded: Tensor, positives: Tensor) -> Tensor:
    """The mask with every positive kept. A row that keeps nothing else has loss 0: there is nothing to learn."""
    return excluded.scatter(1, positives[:, None], False)
