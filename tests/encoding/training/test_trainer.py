from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest
import torch
from sentence_transformers import SentenceTransformer

from personarank_dagster.configuration.settings import TrainConfig
from personarank_dagster.core.encoders import EncoderInfo
from personarank_dagster.core.errors import ContractError
from personarank_dagster.core.profiles import Windows, unit_rows
from personarank_dagster.encoding.encoder import encode, load_model, save_model
from personarank_dagster.encoding.train import TrainedEncoder
from personarank_dagster.encoding.training.batches import PairCollator, TrainingData
from personarank_dagster.encoding.training.callbacks import counting
from personarank_dagster.encoding.training.models import EncoderModel, HeadModel
from personarank_dagster.encoding.training.trainer import (
    Training,
    TrainingRun,
    num_steps,
    train_encoder_weights,
    train_head,
)

RNG = np.random.default_rng(0)
NUM_PAIRS, NUM_PERSONAS = 40, 10
CONFIG = TrainConfig(st_path="tiny", batch_size=8, epochs=4, warmup_steps=0, lr=1e-2, validation_share=0.0)

# Pair j has the persona j % 10; its two interactions carry that persona's vector, rotated.
TARGETS = np.arange(NUM_PAIRS) % NUM_PERSONAS
DATA = TrainingData(
    text_rows=np.arange(2 * NUM_PAIRS) % (2 * NUM_PERSONAS),
    windows=Windows(np.arange(0, 2 * NUM_PAIRS, 2), np.arange(2, 2 * NUM_PAIRS + 1, 2)),
    targets=TARGETS,
    target_items=TARGETS // 2,
    users=np.arange(NUM_PAIRS) // 2,
    persona_items=np.arange(NUM_PERSONAS) // 2,
    neighbours=np.stack([(TARGETS // 2 + 1) % 5, (TARGETS // 2 + 2) % 5], axis=1),
    nearness=np.zeros((NUM_PAIRS, 3), np.float32),
)
PERSONA_VECTORS = unit_rows(RNG.normal(size=(NUM_PERSONAS, 16)).astype(np.float32))
ROTATION = np.linalg.qr(RNG.normal(size=(16, 16)))[0].astype(np.float32)
INTERACTION_VECTORS = np.repeat(PERSONA_VECTORS @ ROTATION, 2, axis=0)


def train(config: TrainConfig, model_path: str, steps: list[int] | None = None):
    return train_head(
        load_model(model_path, max_len=32, device="cpu"),
        DATA,
        config,
        TrainingRun("cpu", "fp32", lambda step, total, numbers: steps.append(total) if steps is not None else None),
        interaction_vectors=INTERACTION_VECTORS,
        persona_vectors=PERSONA_VECTORS,
    )


@pytest.mark.parametrize("negatives", ["catalogue", "batch"])
def test_the_heads_learn_a_rotation(tiny_model_path: str, negatives: str) -> None:
    config = msgspec.structs.replace(CONFIG, epochs=20, negatives=negatives)
    losses = train(config, tiny_model_path).losses
    assert np.mean(losses[-5:]) < 0.3 * np.mean(losses[:5])


def test_one_seed_gives_the_same_weights_and_another_does_not(tiny_model_path: str) -> None:
    def weights(seed: int) -> list[np.ndarray]:
        trained = train(msgspec.structs.replace(CONFIG, seed=seed), tiny_model_path).model
        return [parameter.detach().numpy() for parameter in trained.parameters()][-2:]

    first, again, other = weights(1), weights(1), weights(2)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])


def test_max_steps_bounds_the_epochs_and_never_extends_them(tiny_model_path: str) -> None:
    steps: list[int] = []
    assert len(train(msgspec.structs.replace(CONFIG, max_steps=3), tiny_model_path, steps).losses) == 3
    assert steps == [3, 3, 3]
    assert num_steps(NUM_PAIRS, msgspec.structs.replace(CONFIG, max_steps=1000)) == 4 * 5
    assert num_steps(NUM_PAIRS, msgspec.structs.replace(CONFIG, grad_accum_steps=2)) == 4 * 3


def test_a_batch_holds_each_text_once_with_its_weight_in_each_profile() -> None:
    batch = PairCollator(DATA, gamma=0.5)([0, 10, 3])
    assert batch["texts"].tolist() == [0, 1, 6, 7]
    assert batch["text_weights"].tolist() == [[0.5, 1, 0, 0], [0.5, 1, 0, 0], [0, 0, 0.5, 1]]
    assert batch["targets"].tolist() == [0, 0, 3]


def test_a_text_that_a_profile_holds_twice_counts_twice() -> None:
    twice = TrainingData(
        np.array([4, 4]),
        Windows(np.array([0]), np.array([2])),
        TARGETS[:1],
        DATA.target_items[:1],
        DATA.users[:1],
        DATA.persona_items,
        DATA.neighbours[:1],
        DATA.nearness[:1],
    )
    assert PairCollator(twice, gamma=0.5)([0])["text_weights"].tolist() == [[1.5]]


TEXTS = [f"{color} {thing}" for color in ("red", "blue") for thing in ("lamp", "chair", "desk", "item", "a")] * 2


def encoder_model(config: TrainConfig, model_path: str) -> EncoderModel:
    encoder = load_model(model_path, max_len=32, device="cpu")
    model = EncoderModel(DATA, config, encoder, TEXTS, TEXTS[:NUM_PERSONAS]).eval()
    model.start_epoch(0)
    return model


def test_batch_and_catalogue_negatives_agree_when_the_batch_holds_every_persona(tiny_model_path: str) -> None:
    batch = PairCollator(DATA, CONFIG.gamma)(range(NUM_PERSONAS))
    losses = [
        encoder_model(msgspec.structs.replace(CONFIG, negatives=negatives), tiny_model_path)(**batch)["loss"]
        for negatives in ("batch", "catalogue")
    ]
    torch.testing.assert_close(*losses)


def test_head_and_encoder_model_start_from_the_same_loss(tiny_model_path: str) -> None:
    full = encoder_model(CONFIG, tiny_model_path)
    with torch.no_grad():
        interactions, personas = (
            verb(torch.arange(count)).numpy()
            for verb, count in ((full.interactions, 20), (full.personas, NUM_PERSONAS))
        )
    head = HeadModel(DATA, CONFIG, interactions, personas)
    batch = PairCollator(DATA, CONFIG.gamma)([1, 2, 3])
    torch.testing.assert_close(head(**batch)["loss"], full(**batch)["loss"])


@pytest.mark.parametrize("negatives", ["catalogue", "batch"])
def test_full_training_changes_the_encoder_and_lowers_the_loss(tiny_model_path: str, negatives: str) -> None:
    config = msgspec.structs.replace(CONFIG, tune="full", epochs=10, lr=3e-3, negatives=negatives)
    before = load_model(tiny_model_path, max_len=32, device="cpu").encode(["red lamp"])
    training = train_weights(config, tiny_model_path)
    assert np.mean(training.losses[-5:]) < np.mean(training.losses[:5]) - 0.1
    after = training.model.encode(["red lamp"])
    assert np.abs(np.linalg.norm(after) - 1) < 1e-5
    assert not np.allclose(before / np.linalg.norm(before), after, atol=1e-3)


def test_an_encoder_with_a_loss_or_weight_that_is_no_number_is_not_published(tiny_model_path: str) -> None:
    info = EncoderInfo(st_path="", tune="head", max_len=32, dimension=16, base_fingerprint="", fingerprint="")
    training = train(msgspec.structs.replace(CONFIG, max_steps=1), tiny_model_path)
    assert TrainedEncoder(info, training, CONFIG, "cpu", "fp32").check() is None
    with pytest.raises(ContractError, match="the loss must be finite, got none in step 2"):
        TrainedEncoder(info, replace(training, losses=[1.0, float("nan")]), CONFIG, "cpu", "fp32").check()
    next(training.model.parameters()).data[0, 0] = float("inf")
    with pytest.raises(ContractError, match="weights must be finite, got others in "):
        TrainedEncoder(info, training, CONFIG, "cpu", "fp32").check()


def test_users_and_items_are_numbered_and_a_target_may_have_no_persona(tiny_model_path: str) -> None:
    from personarank_dagster.core.histories import TrainingPairs
    from personarank_dagster.encoding.training.batches import training_data
    from personarank_dagster.encoding.training.neighbours import Neighbourhood

    frame = pl.DataFrame({"user_id": ["v", "u"], "target_item_id": ["b", "a"], "unique_persona_id": ["b_P1", None]})
    personas = pl.DataFrame({"item_id": ["a", "b", "b"], "unique_persona_id": ["a_P1", "b_P0", "b_P1"]})
    near = Neighbourhood(DATA.neighbours[:2], DATA.nearness[:2])
    data = training_data(TrainingPairs(frame, DATA.windows[:2], {}), np.array([0]), personas, near)
    assert (data.targets.tolist(), data.target_items.tolist()) == ([2, -1], [1, 0])
    assert (data.users.tolist(), data.persona_items.tolist()) == ([1, 0], [0, 1, 1])


class KilledError(Exception):
    """Stands for a kill: nothing is written after it."""


RESUMED = msgspec.structs.replace(CONFIG, epochs=4, lr=3e-3, checkpoint_seconds=0, validation_share=0.2, refit=False)


def fit(config: TrainConfig, model_path: str, checkpoints: Path | None, kill: int = 0) -> tuple[Training, list[int]]:
    """A training that is killed at a step, or ends; and the steps that it took."""
    steps: list[int] = []

    def on_step(step: int, total: int, numbers: dict[str, float]) -> None:
        if "loss" in numbers:
            steps.append(step)
            if step == kill:
                raise KilledError

    return train_weights(config, model_path, TrainingRun("cpu", "fp32", on_step, checkpoints)), steps


def same_weights(one: Training, other: Training) -> bool:
    before, after = (trained.model.state_dict() for trained in (one, other))
    return all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("tune", "negatives", "killed_at"), [("full", "batch", 3), ("full", "catalogue", 9), ("lora", "catalogue", 13)]
)
def test_a_killed_training_continues_to_the_same_weights(
    tiny_model_path: str, tmp_path: Path, tune: str, negatives: str, killed_at: int
) -> None:
    config = msgspec.structs.replace(RESUMED, tune=tune, negatives=negatives)
    undisturbed, _ = fit(config, tiny_model_path, None)
    with pytest.raises(KilledError):
        fit(config, tiny_model_path, tmp_path, kill=killed_at)
    (tmp_path / "checkpoint-15").mkdir()  # killed while it was written
    continued, steps = fit(config, tiny_model_path, tmp_path)
    assert steps == list(range(killed_at, 17))
    assert continued.losses == undisturbed.losses
    assert continued.evaluations == undisturbed.evaluations
    assert continued.best_step == undisturbed.best_step
    assert same_weights(undisturbed, continued)


class Explosive:
    """A pickle of it makes a file when it is loaded."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.trace,)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def make_malicious(checkpoint: Path) -> None:
    for path in checkpoint.iterdir():
        if path.suffix in (".pt", ".pth", ".bin"):
            torch.save(Explosive(checkpoint.parent / "exploded"), path)


# What happened to the newest checkpoint, and the step that is then taken first; it was to be 10.
DAMAGES: dict[str, tuple[Callable[[Path], None], int]] = {
    "malicious pickles": (make_malicious, 9),
    "truncated optimizer": (lambda newest: truncate(newest / "optimizer.pt"), 9),
    "truncated weights": (lambda newest: truncate(newest / "model.safetensors"), 9),
    "truncated state": (lambda newest: truncate(newest / "trainer_state.json"), 9),
    "truncated best weights": (lambda newest: truncate(newest.parent / "best.safetensors"), 1),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_runs_nothing_and_the_one_before_is_continued(
    tiny_model_path: str, tmp_path: Path, damage: str
) -> None:
    config = msgspec.structs.replace(RESUMED, tune="full", negatives="batch")
    undisturbed, _ = fit(config, tiny_model_path, None)
    with pytest.raises(KilledError):
        fit(config, tiny_model_path, tmp_path, kill=10)
    newest = max(tmp_path.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    damaged, first = DAMAGES[damage]
    damaged(newest)
    continued, steps = fit(config, tiny_model_path, tmp_path)
    assert steps == list(range(first, 17))
    assert same_weights(undisturbed, continued)
    assert not (tmp_path / "exploded").exists()


def test_the_best_evaluation_gives_the_weights_and_patience_ends_the_training(tiny_model_path: str) -> None:
    config = msgspec.structs.replace(CONFIG, epochs=30, validation_share=0.3, patience=2, lr=0.3, refit=False)
    training = train(config, tiny_model_path)
    scores = [entry["best_by"] for entry in training.evaluations]
    best = scores.index(max(scores))
    assert training.best_step == counting(training.evaluations)["step"]
    assert len(scores) - 1 - best == 2
    assert len(training.losses) == training.evaluations[-1]["step"] < 30 * 4


def test_the_last_evaluation_within_a_standard_error_of_the_best_counts() -> None:
    def step(*scores: float) -> int:
        entries = [{"step": i, "best_by": score, "standard_error": 0.02} for i, score in enumerate(scores)]
        return int(counting(entries)["step"])

    assert step(0.1, 0.2, 0.25, 0.24) == 3
    assert step(0.1, 0.2, 0.25, 0.22) == 2
    assert step(0.1, 0.24, 0.23, 0.25, 0.22) == 3
    assert step(0.3, 0.2, 0.25) == 0


def test_a_refit_is_the_training_of_all_users_for_as_many_epochs(tiny_model_path: str) -> None:
    validated = msgspec.structs.replace(CONFIG, validation_share=0.3, refit=True)
    training = train(validated, tiny_model_path)
    alone = train(msgspec.structs.replace(CONFIG, validation_share=0.0), tiny_model_path)
    epochs = [entry["step"] for entry in training.evaluations].index(training.best_step)
    assert epochs == CONFIG.epochs
    assert training.refit_losses == alone.losses
    assert len(training.losses) < len(alone.losses)
    assert same_weights(training, alone)


def test_a_training_that_is_killed_in_its_refit_continues_to_the_same_weights(
    tiny_model_path: str, tmp_path: Path
) -> None:
    config = msgspec.structs.replace(RESUMED, tune="full", negatives="batch", refit=True)
    undisturbed, steps = fit(config, tiny_model_path, None)
    assert steps == [*range(1, 17), *range(1, len(undisturbed.refit_losses) + 1)]
    with pytest.raises(KilledError):
        fit(config, tiny_model_path, tmp_path, kill=17)
    continued, steps = fit(config, tiny_model_path, tmp_path)
    assert steps == list(range(17, 21))
    assert (continued.losses, continued.refit_losses) == (undisturbed.losses, undisturbed.refit_losses)
    assert same_weights(undisturbed, continued)


def test_lora_trains_few_weights_and_is_merged_into_a_plain_model(tiny_model_path: str, tmp_path: Path) -> None:
    config = msgspec.structs.replace(CONFIG, tune="lora", epochs=10, lr=3e-3, lora_r=16, lora_dropout=0.0)
    training = train_weights(config, tiny_model_path)
    assert np.mean(training.losses[-5:]) < np.mean(training.losses[:5]) - 0.05
    base = load_model(tiny_model_path, max_len=32, device="cpu")
    assert training.model[0].state_dict().keys() == base[0].state_dict().keys()
    save_model(training.model, tmp_path)
    saved = SentenceTransformer(str(tmp_path), device="cpu")
    np.testing.assert_allclose(saved.encode(TEXTS), encode(training.model, TEXTS), atol=1e-5)
    assert not np.allclose(saved.encode(TEXTS), encode(base, TEXTS), atol=1e-2)


def test_a_large_batch_and_an_accumulated_one_are_the_same(tiny_model_path: str) -> None:
    weights = []
    for batch_size, steps in ((16, 1), (4, 4)):
        config = msgspec.structs.replace(CONFIG, tune="full", batch_size=batch_size, grad_accum_steps=steps, epochs=1)
        weights.append(train_weights(config, tiny_model_path).model.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


QUIET = TrainingRun("cpu", "fp32", lambda step, total, numbers: None)


def train_weights(config: TrainConfig, model_path: str, run: TrainingRun = QUIET) -> Training:
    return train_encoder_weights(
        load_model(model_path, max_len=32, device="cpu"),
        DATA,
        config,
        run,
        interaction_texts=TEXTS,
        persona_texts=TEXTS[:NUM_PERSONAS],
    )
