import math

import torch
from torch.nn.functional import normalize

from personarank_dagster.encoding.training.loss import (
    above_positive_share,
    info_nce,
    item_scores,
    listwise_scores,
    not_neighbours,
    same_user,
    siblings,
    weighted_profiles,
    with_a_negative,
)

torch.manual_seed(0)
PROFILES = normalize(torch.randn(4, 6), dim=1)
PERSONAS = normalize(torch.randn(7, 6), dim=1)
SCORES = PROFILES @ PERSONAS.T
POSITIVES = torch.tensor([0, 3, 3, 6])
NOTHING = torch.zeros(4, 7, dtype=torch.bool)


def naive_loss(excluded: torch.Tensor, temperature: float, smoothing: float) -> float:
    """One row after the other, in Python floats."""
    total = 0.0
    for row, positive in enumerate(POSITIVES.tolist()):
        kept = [p for p in range(7) if not excluded[row, p]]
        logits = {p: float(PROFILES[row] @ PERSONAS[p]) / temperature for p in kept}
        log_sum = math.log(sum(math.exp(value) for value in logits.values()))
        smooth = sum(logits[p] - log_sum for p in kept) / len(kept)
        total -= (1 - smoothing) * (logits[positive] - log_sum) + smoothing * smooth
    return total / len(POSITIVES)


def test_the_loss_equals_the_naive_one_with_masks_temperature_and_smoothing() -> None:
    excluded = with_a_negative(siblings(torch.tensor([0, 0, 0, 1, 1, 2, 2]), POSITIVES), SCORES, POSITIVES)
    for temperature, smoothing in ((0.1, 0.0), (0.7, 0.1)):
        loss = info_nce(
            SCORES,
            POSITIVES,
            excluded=excluded,
            temperature=temperature,
            label_smoothing=smoothing,
        )
        assert math.isclose(loss.item(), naive_loss(excluded, temperature, smoothing), rel_tol=1e-5)


def test_excluded_personas_get_no_gradient() -> None:
    personas = PERSONAS.clone().requires_grad_()
    excluded = NOTHING.clone()
    excluded[:, 5] = True
    info_nce(PROFILES @ personas.T, POSITIVES, excluded=excluded, temperature=0.1, label_smoothing=0.1).backward()
    assert personas.grad is not None
    assert personas.grad[5].abs().sum() == 0
    assert personas.grad[4].abs().sum() > 0


def test_siblings_are_the_personas_of_the_positives_item() -> None:
    mask = siblings(torch.tensor([0, 0, 1, 1, 1, 2, 2]), torch.tensor([1, 6]))
    assert mask.int().tolist() == [[1, 1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1, 1]]


def test_same_user_masks_what_the_users_other_rows_selected() -> None:
    mask = same_user(torch.tensor([8, 9, 8]), torch.tensor([0, 1, 2]), num_columns=4)
    assert mask.int().tolist() == [[1, 0, 1, 0], [0, 1, 0, 0], [1, 0, 1, 0]]


def test_personas_nearer_than_a_share_of_the_positive_are_found() -> None:
    mask = above_positive_share(torch.tensor([[1.0, 0.96, 0.8]]), torch.tensor([0]), 0.95)
    assert mask.tolist() == [[True, True, False]]


def test_a_row_keeps_its_positive_and_at_least_the_least_similar_other() -> None:
    scores = torch.tensor([[0.9, 0.1, 0.5], [0.2, 0.3, 0.9]])
    kept = ~with_a_negative(torch.tensor([[True, True, True], [True, False, True]]), scores, torch.tensor([0, 2]))
    assert kept.int().tolist() == [[1, 1, 0], [0, 1, 1]]


def test_a_row_without_any_other_column_has_no_loss() -> None:
    one = torch.tensor([[0.3], [0.4]])
    positives = torch.tensor([0, 0])
    excluded = with_a_negative(torch.ones(2, 1, dtype=torch.bool), one, positives)
    assert info_nce(one, positives, excluded=excluded, temperature=0.1, label_smoothing=0.1).item() == 0.0


def test_an_item_scores_as_its_best_persona_and_the_positives_item_as_the_positive() -> None:
    cosines, items = torch.tensor([[0.1, 0.4, 0.2, 0.3]]), torch.tensor([0, 0, 1, 1])
    torch.testing.assert_close(item_scores(cosines, items, 2), torch.tensor([[0.4, 0.3]]))
    own = torch.tensor([0])
    torch.testing.assert_close(listwise_scores(cosines, torch.tensor([0]), own, items), torch.tensor([[0.1, 0.3]]))
    torch.testing.assert_close(listwise_scores(cosines, torch.tensor([-1]), own, items), torch.tensor([[0.4, 0.3]]))


def test_columns_of_other_items_than_the_neighbours_are_found() -> None:
    mask = not_neighbours(torch.tensor([0, 0, 2, 5]), torch.tensor([[0, 7], [5, -1]]))
    assert mask.int().tolist() == [[0, 0, 1, 1], [1, 1, 1, 0]]


def test_profiles_are_unit_weighted_sums() -> None:
    vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0]])
    profiles = weighted_profiles(vectors, torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, 1.0]]))
    torch.testing.assert_close(profiles, torch.tensor([[0.6, 0.8], [0.0, 1.0]]))
