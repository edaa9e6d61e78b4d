"""Train an encoder on the transformers trainer: optimiser, schedule, precision and ranks are its work."""

import resource
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from peft import LoraConfig
from peft.tuners.lora import LoraModel
from sentence_transformers import SentenceTransformer
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainingArguments, set_seed

from personarank_dagster.configuration.settings import TrainConfig
from personarank_dagster.core.profiles import FloatArray
from personarank_dagster.encoding.devices import TrainingPrecision
from personarank_dagster.encoding.encoder import with_heads, with_normalize
from personarank_dagster.encoding.training.batches import (
    PairBatches,
    PairCollator,
    PairNumbers,
    TrainingData,
    split_by_user,
)
from personarank_dagster.encoding.training.callbacks import (
    BestWeights,
    Checkpoints,
    Epochs,
    OnStep,
    Progress,
    last_checkpoint,
    trained_weights,
)
from personarank_dagster.encoding.training.evaluation import Metrics, make_validation
from personarank_dagster.encoding.training.models import EncoderModel, HeadModel, ProfilePersonaModel
from personarank_dagster.encoding.training.ranks import from_first, rank_and_world


@dataclass(frozen=True)
class Cost:
    """What a training took; no part of its result. `texts` were encoded, evaluations included."""

    seconds: float
    texts: int
    peak_memory_bytes: int


@dataclass(frozen=True)
class Training:
    """A finished training: the model and its curve.

    `losses[i]` is the loss of step i + 1; `evaluations` are metrics of held-out users, each with its step, the
    first of the untrained base; empty where nobody was held out. The model is that of `best_step` or, with losses of
    a `refit`, the one that was trained anew on all users for as many epochs.
    """

    model: SentenceTransformer
    losses: list[float]
    evaluations: list[Metrics]
    best_step: int
    cost: Cost
    refit_losses: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class TrainingRun:
    """What a training runs with, whatever it learns: a device, its precision, who hears of steps, its checkpoints.

    Without a folder for checkpoints there is nothing to continue from.
    """

    device: str
    precision: TrainingPrecision
    on_step: OnStep
    checkpoints: Path | None = None


def train_head(
    model: SentenceTransformer,
    data: TrainingData,
    config: TrainConfig,
    run: TrainingRun,
    *,
    interaction_vectors: FloatArray,
    persona_vectors: FloatArray,
) -> Training:
    """Learn the two linear maps on vectors of the frozen model; the result is the model followed by them."""
    heads = HeadModel(data, config, interaction_vectors, persona_vectors)
    fitted = _fit(heads, data, config, run)
    query, document = (layer.weight.detach().cpu().numpy() for layer in (heads.query, heads.document))
    return Training(with_heads(model, query, document), *fitted)


def train_encoder_weights(
    model: SentenceTransformer,
    data: TrainingData,
    config: TrainConfig,
    run: TrainingRun,
    *,
    interaction_texts: Sequence[str],
    persona_texts: Sequence[str],
) -> Training:
    """Train every weight of the model or, with `tune: lora`, adapters that are merged into it in the end."""
    with _adapters(model, config):
        encoder = EncoderModel(data, config, with_normalize(model), interaction_texts, persona_texts)
        fitted = _fit(encoder, data, config, run)
    return Training(encoder.encoder.eval(), *fitted)


def num_steps(num_pairs: int, config: TrainConfig) -> int:
    """Optimiser steps: `epochs` over the pairs, but at most `max_steps` where that is not 0."""
    all_steps = steps_per_epoch(num_pairs, config) * config.epochs
    return min(all_steps, config.max_steps or all_steps)


def steps_per_epoch(num_pairs: int, config: TrainConfig) -> int:
    """Optimiser steps that see each pair once."""
    return -(-num_pairs // pairs_per_step(config))


def all_steps(num_pairs: int, config: TrainConfig) -> int:
    """About the optimiser steps of a training and its refit; users differ in their pairs."""
    held_out = round(num_pairs * config.validation_share)
    refit = num_steps(num_pairs, config) if config.refit and held_out else 0
    return num_steps(num_pairs - held_out, config) + refit


def pairs_per_step(config: TrainConfig) -> int:
    """Pairs of an update. Accumulation makes one large batch, whose pairs all are each other's negatives."""
    return config.batch_size * config.grad_accum_steps


@contextmanager
def _adapters(model: SentenceTransformer, config: TrainConfig) -> Iterator[None]:
    """With `tune: lora`, low-rank adapters on every linear map of the transformer; merged into it at the end."""
    if config.tune != "lora":
        yield
        return
    settings = LoraConfig(
        r=config.lora_r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules="all-linear",
    )
    set_seed(config.seed)
    tuner = LoraModel(model[0].auto_model, {"default": settings}, "default")
    yield
    tuner.merge_and_unload()
    for parameter in model.parameters():
        parameter.requires_grad_(True)


class _PairTrainer(Trainer):
    """Gives every rank the same whole batches: who encodes which of their texts is the model's decision."""

    batches: PairBatches

    def get_train_dataloader(self) -> DataLoader[int]:
        numbers = PairNumbers(len(self.batches.users))
        return DataLoader(numbers, batch_sampler=self.batches, collate_fn=self.data_collator)


@dataclass(frozen=True)
class _Fit:
    """Loss of every step, evaluations, and the step whose weights the model has."""

    losses: list[float]
    evaluations: list[Metrics]
    best_step: int


def _fit(
    model: ProfilePersonaModel, data: TrainingData, config: TrainConfig, run: TrainingRun
) -> tuple[list[float], list[Metrics], int, Cost, list[float]]:
    """Train with some users held out and then, with `refit`, anew on all of them for as many epochs.

    Both go on from the last whole checkpoint in the folder if there is one; the result is the same as without.
    """
    started = time.perf_counter()
    trained, held_out = split_by_user(data, config.validation_share, config.seed)
    beginning = {name: tensor.detach().clone() for name, tensor in trained_weights(model).items()}
    with TemporaryDirectory() as temporary:
        folder = run.checkpoints or Path(temporary)
        fit = _train(model, trained, held_out, config, run, folder)
        refit_losses: list[float] = []
        if held_out and config.refit:
            with torch.no_grad():
                for name, tensor in trained_weights(model).items():
                    tensor.copy_(beginning[name])
            epochs = fit.best_step / steps_per_epoch(len(trained), config)
            stop_at = round(epochs * steps_per_epoch(len(data), config))
            if stop_at:
                refit_losses = _train(model, data, None, config, run, folder / "refit", stop_at=stop_at).losses
    texts = getattr(model, "texts_encoded", 0)
    cost = Cost(time.perf_counter() - started, texts, _peak_memory(run.device))
    return fit.losses, fit.evaluations, fit.best_step, cost, refit_losses


def _train(
    model: ProfilePersonaModel,
    pairs: TrainingData,
    held_out: TrainingData | None,
    config: TrainConfig,
    run: TrainingRun,
    folder: Path,
    *,
    stop_at: int | None = None,
) -> _Fit:
    """Train on pairs; at the end of the epoch that reaches step `stop_at`, end. Evaluate on who is held out."""
    set_seed(config.seed)
    folder.mkdir(parents=True, exist_ok=True)
    batches = PairBatches(pairs.users, pairs_per_step(config), seed=config.seed, by_user=config.user_batches)
    best = BestWeights(folder / "best.safetensors")
    validation = make_validation(held_out, config) if held_out else None
    steps = num_steps(len(pairs), config)
    trainer = _PairTrainer(
        model=model,
        args=_arguments(folder, len(pairs), config, run),
        train_dataset=PairNumbers(len(pairs)),
        data_collator=PairCollator(pairs, config.gamma),
        callbacks=[
            Epochs(model, batches, validation, best, config.patience, stop_at or steps, run.on_step),
            Progress(run.on_step),
            Checkpoints(config.checkpoint_seconds),
        ],
    )
    trainer.batches = batches
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=from_first(lambda: last_checkpoint(folder, best.path)))
    history = trainer.state.log_history
    best_step = best.load(model, history) if validation else trainer.state.global_step
    losses = [float(entry["loss"]) for entry in history if "loss" in entry]
    return _Fit(losses, [entry for entry in history if "accuracy@1" in entry], best_step)


def _arguments(folder: Path, num_pairs: int, config: TrainConfig, run: TrainingRun) -> TrainingArguments:
    distributed = rank_and_world()[1] > 1
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=num_steps(num_pairs, config),
        per_device_train_batch_size=pairs_per_step(config),
        learning_rate=config.lr,
        weight_decay=config.weight_decay,
        lr_scheduler_type=config.scheduler if not config.warmup_steps else _WITH_WARMUP[config.scheduler],
        warmup_steps=config.warmup_steps,
        seed=config.seed,
        use_cpu=run.device == "cpu",
        ddp_backend="gloo" if distributed and run.device == "cpu" else None,
        # A pooler that nothing reads has no gradient.
        ddp_find_unused_parameters=distributed or None,
        remove_unused_columns=False,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",
        # The one before is whole while the next is written.
        save_total_limit=2,
        report_to="none",
        disable_tqdm=True,
        bf16=run.precision == "bf16",
        fp16=run.precision == "fp16",
    )


_WITH_WARMUP = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}


def _peak_memory(device: str) -> int:
    """Bytes: of the device where it counts them, else of this process."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
