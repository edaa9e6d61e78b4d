import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from personarank_dagster.configuration.settings import TrainConfig
from personarank_dagster.core.profiles import Windows
from personarank_dagster.encoding.training.batches import PairBatches, TrainingData, split_by_user
from personarank_dagster.encoding.training.evaluation import evaluate, make_validation, measure, standard_error
from personarank_dagster.encoding.training.models import HeadModel

CONFIG = TrainConfig(st_path="tiny")
# Two pairs; items 0 and 1 have two personas each, item 2 has one.
DATA = TrainingData(
    text_rows=np.array([0, 1]),
    windows=Windows(np.array([0, 1]), np.array([1, 2])),
    targets=np.array([1, 4]),
    target_items=np.array([0, 2]),
    users=np.array([0, 1]),
    persona_items=np.array([0, 0, 1, 1, 2]),
    neighbours=np.array([[1, 2], [0, -1]]),
    nearness=np.array([[0.8, 0.2, 0.5], [0.4, 0.0, 0.0]], np.float32),
)
COSINES = torch.tensor([[0.9, 0.5, 0.95, 0.1, 0.2], [0.1, 0.2, 0.3, 0.4, 0.6]])


def test_metrics_are_those_computed_by_hand() -> None:
    metrics = measure(make_validation(DATA, CONFIG), COSINES)
    # Pair 0: its persona is second of two; its item (0.9) is second behind item 1. Pair 1: first everywhere, but in
    # the blend, where item 0 is as near as its own item fits.
    second, tied = 1 / math.log2(3), 1 / math.log2(2.5)
    assert metrics == pytest.approx(
        {
            "accuracy@1": 0.5,
            "mrr": 0.75,
            "chance": 0.75,
            "ndcg@10_sampled": (second + 1) / 2,
            "ndcg@10_hard": (second + 1) / 2,
            "ndcg@10_blend": (second + tied) / 2,
            "standard_error": (tied - second) / 2,
        }
    )


def test_an_encoder_that_says_the_same_of_everything_is_worth_what_chance_is() -> None:
    metrics = measure(make_validation(DATA, CONFIG), torch.full_like(COSINES, 0.3))
    assert metrics["accuracy@1"] == 0.5
    assert metrics["mrr"] == pytest.approx((1 / 1.5 + 1) / 2)
    assert metrics["ndcg@10_hard"] == pytest.approx((1 / math.log2(2 + 1) + 1 / math.log2(1.5 + 1)) / 2)


def test_what_has_no_score_stands_last() -> None:
    metrics = measure(make_validation(DATA, CONFIG), torch.full_like(COSINES, math.nan))
    assert metrics["ndcg@10_sampled"] == pytest.approx(1 / math.log2(3 + 1))
    assert metrics["mrr"] == pytest.approx((1 / 2 + 1) / 2)


def test_the_standard_error_is_that_of_users_whose_pairs_repeat_each_other() -> None:
    # Two users, two pairs each, mean 0.5; the users' sums are 0.8 - 1 and 1.2 - 1 from what is expected.
    values, users = torch.tensor([0.3, 0.5, 0.5, 0.7]), torch.tensor([4, 4, 9, 9])
    assert standard_error(values, users) == pytest.approx(math.sqrt(2 * (0.04 + 0.04)) / 4)
    # The same four pairs by four users.
    deviation = math.sqrt((0.04 + 0 + 0 + 0.04) / 3)
    assert standard_error(values, torch.arange(4)) == pytest.approx(deviation / math.sqrt(4))


def test_pairs_that_repeat_say_no_more_than_one_of_each_user() -> None:
    values, users = torch.tensor([0.2, 0.9, 0.4]), torch.tensor([0, 1, 2])
    once = standard_error(values, users)
    assert standard_error(values.repeat(5), users.repeat(5)) == pytest.approx(once)


@pytest.mark.parametrize("pairs", [1, 3])
def test_one_user_says_nothing_of_others(pairs: int) -> None:
    assert standard_error(torch.linspace(0, 1, pairs), torch.zeros(pairs, dtype=torch.int64)) == 1.0


def test_the_blend_chooses_by_half_the_persona_score_and_half_the_nearness() -> None:
    # Pair 0: its item has 0.93 of the persona scores' range, and now all of the nearness; item 1 the rest of both.
    tied = 1 / math.log2(2.5)
    near = replace(DATA, nearness=np.array([[0.2, 0.3, 0.9], [0.4, 0.0, 0.0]], np.float32))
    assert measure(make_validation(near, CONFIG), COSINES)["ndcg@10_blend"] == pytest.approx((1 + tied) / 2)
    far = replace(DATA, nearness=np.array([[0.2, 0.3, 0.1], [0.4, 0.0, 0.0]], np.float32))
    # Then item 1 has 1.5, item 2 has 1 and the target 0.93: third.
    assert measure(make_validation(far, CONFIG), COSINES)["ndcg@10_blend"] == pytest.approx((1 / 2 + tied) / 2)


def test_the_persona_is_judged_where_one_was_selected() -> None:
    unknown = replace(DATA, targets=np.array([-1, 4]))
    metrics = measure(make_validation(unknown, CONFIG), COSINES)
    assert (metrics["accuracy@1"], metrics["chance"]) == (1.0, 1.0)
    assert metrics["ndcg@10_hard"] == measure(make_validation(DATA, CONFIG), COSINES)["ndcg@10_hard"]


def test_only_the_items_of_a_pair_are_its_hard_items() -> None:
    far = replace(DATA, neighbours=np.array([[2, -1], [0, -1]]))
    metrics = measure(make_validation(far, CONFIG), COSINES)
    assert metrics["ndcg@10_hard"] == 1.0
    assert metrics["ndcg@10_sampled"] < 1.0


def test_without_neighbours_the_sampled_items_choose_the_checkpoint() -> None:
    assert make_validation(DATA, CONFIG).best_by == "ndcg@10_blend"
    alone = replace(DATA, neighbours=np.full((2, 2), -1))
    assert make_validation(alone, CONFIG).best_by == "ndcg@10_sampled"


def test_an_evaluation_changes_neither_the_model_nor_the_random_numbers() -> None:
    vectors = np.eye(5, 6, dtype=np.float32)
    model = HeadModel(DATA, CONFIG, vectors, vectors).train()
    state = torch.get_rng_state()
    metrics = evaluate(model, make_validation(DATA, CONFIG))
    # Profile 0 has cosine 1 with the first persona, and the second was selected; pair 1 has a choice of one.
    assert metrics["accuracy@1"] == 0.5
    assert metrics["mean_persona_cosine"] == pytest.approx(0.0)
    assert model.training
    assert torch.equal(state, torch.get_rng_state())


def test_users_are_held_out_whole_and_by_the_seed() -> None:
    users = np.repeat(np.arange(10), 3)
    data = TrainingData(
        np.arange(30),
        Windows(np.arange(30), np.arange(1, 31)),
        users % 5,
        DATA.persona_items[users % 5],
        users,
        DATA.persona_items,
        np.full((30, 1), -1),
        np.zeros((30, 2), np.float32),
    )
    train, validation = split_by_user(data, 0.2, seed=1)
    assert validation is not None
    assert (len(train), len(validation)) == (24, 6)
    assert not set(train.users) & set(validation.users)
    again = split_by_user(data, 0.2, seed=1)[1]
    assert again is not None
    assert again.users.tolist() == validation.users.tolist()


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_nobody_is_held_out_where_that_is_no_user_or_everyone(share: float) -> None:
    assert split_by_user(DATA, share, seed=1) == (DATA, None)


def test_batches_by_user_keep_a_users_pairs_together_and_epochs_differ() -> None:
    users = np.repeat(np.arange(6), 4)
    batches = PairBatches(users, 8, seed=1, by_user=True)
    first = list(batches)
    assert all(len(set(users[batch])) == 2 for batch in first)
    assert sorted(pair for batch in first for pair in batch) == list(range(24))
    batches.set_epoch(1)
    assert list(batches) != first
    assert len(batches) == len(first) == 3
