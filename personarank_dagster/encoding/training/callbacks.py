"""What happens between the steps of a training: progress, epochs with their evaluation, checkpoints."""

import json
import logging
import pickle
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_pt_utils import safe_globals
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from personarank_dagster.encoding.sources import first_line
from personarank_dagster.encoding.training.batches import PairBatches
from personarank_dagster.encoding.training.evaluation import Metrics, Validation, evaluate
from personarank_dagster.encoding.training.models import ProfilePersonaModel
from personarank_dagster.encoding.training.ranks import from_first, rank_and_world

logger = logging.getLogger(__name__)

# Hears step, steps in all, and the numbers of the step: its loss, or the metrics of an evaluation.
OnStep = Callable[[int, int, Metrics], None]

# File that stands in a checkpoint once all others are written.
WHOLE = "whole"
SCORE = "best_by"


def counting(evaluations: list[dict[str, Any]]) -> dict[str, Any]:
    """The evaluation whose weights count: the last one that was not behind the best by more than a standard error.

    The error is that over users. A schedule ends where its learning rate does; to stop before needs a difference that
    is more than noise.
    """
    best = counts = evaluations[0]
    for entry in evaluations:
        best = max(best, entry, key=lambda one: one[SCORE])
        if entry[SCORE] >= best[SCORE] - best["standard_error"]:
            counts = entry
    return counts


class BestWeights:
    """The weights that are trained, as they were at the evaluation that counts so far."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def save(self, model: ProfilePersonaModel) -> None:
        """Write them, on the first rank."""
        if rank_and_world()[0] == 0:
            partial = self.path.with_suffix(".partial")
            save_file(
                {name: tensor.detach().contiguous() for name, tensor in trained_weights(model).items()}, partial
            )
            partial.rename(self.path)

    def load(self, model: ProfilePersonaModel, history: list[dict[str, Any]]) -> int:
        """Put them into the model of every rank, and return the step that they are from. The first rank reads."""
        step = int(counting(_evaluations(history))["step"])
        rank, world = rank_and_world()
        saved = load_file(self.path) if rank == 0 else {}
        with torch.no_grad():
            for name, tensor in trained_weights(model).items():
                if rank == 0:
                    tensor.copy_(saved[name])
                if world > 1:
                    torch.distributed.broadcast(tensor, src=0)
        return step


class Epochs(TrainerCallback):
    """Starts each epoch, evaluates after it, keeps the weights that count, and stops when none were better.

    It also stops after `stop_at` steps, of however many the schedule has.
    """

    def __init__(
        self,
        model: ProfilePersonaModel,
        batches: PairBatches,
        validation: Validation | None,
        best: BestWeights,
        patience: int,
        stop_at: int,
        on_step: OnStep,
    ) -> None:
        self.model, self.batches, self.validation = model, batches, validation
        self.best, self.patience, self.stop_at, self.on_step = best, patience, stop_at, on_step

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        # A checkpoint of the last step of an epoch is older than the evaluation after it.
        if state.global_step % len(self.batches) == 0:
            self._evaluate(state, control)

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        epoch, begun = divmod(state.global_step, len(self.batches))
        self.batches.set_epoch(epoch)
        # A training that continues within an epoch has what was drawn and encoded at its start in the checkpoint.
        if not begun:
            self.model.start_epoch(epoch)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._evaluate(state, control)
        control.should_training_stop |= state.global_step >= self.stop_at

    def _evaluate(self, state: TrainerState, control: TrainerControl) -> None:
        """Evaluate unless this step was, keep weights that count, and stop after `patience` that were no better."""
        done = _evaluations(state.log_history)
        if self.validation is None or any(entry["step"] == state.global_step for entry in done):
            return
        metrics = evaluate(self.model, self.validation)
        entry = {**metrics, SCORE: metrics[self.validation.best_by], "step": state.global_step}
        scores = [one[SCORE] for one in (*done, entry)]
        if counting([*done, entry]) is entry:
            self.best.save(self.model)
        state.log_history.append(entry)
        self.on_step(state.global_step, state.max_steps, metrics)
        waited = len(scores) - 1 - scores.index(max(scores))
        control.should_training_stop |= 0 < self.patience <= waited


class Progress(TrainerCallback):
    """Reports the loss of every step."""

    def __init__(self, on_step: OnStep) -> None:
        self.on_step = on_step

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if (loss := kwargs["logs"].get("loss")) is not None:
            self.on_step(state.global_step, state.max_steps, {"loss": float(loss)})


class Checkpoints(TrainerCallback):
    """Saves a checkpoint every so many seconds, and marks it when all of it is written."""

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds
        self.saved_at = time.monotonic()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        control.should_save = from_first(lambda: time.monotonic() - self.saved_at >= self.seconds)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if rank_and_world()[0] == 0:
            (Path(str(args.output_dir)) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}" / WHOLE).touch()
        self.saved_at = time.monotonic()


def last_checkpoint(folder: Path, best: Path) -> str | None:
    """The newest checkpoint that is whole and can be read, for all ranks; newer ones are removed.

    A killed process may have left one half written, and a disk a damaged one; where the weights of the best
    evaluation cannot be read, no checkpoint is of use. Pickles are read without running what they hold.
    """
    useless = f"{best.name}: {damage}" if best.exists() and (damage := _damage(best)) else ""
    for checkpoint in sorted(folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"), key=_step, reverse=True):
        problem = useless or _problem(checkpoint)
        if not problem:
            return str(checkpoint)
        logger.warning("%s cannot be continued from and is removed: %s", checkpoint, problem)
        shutil.rmtree(checkpoint, ignore_errors=True)
    best.unlink(missing_ok=True)
    return None


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _problem(checkpoint: Path) -> str:
    """Why a training cannot continue from a checkpoint; empty if it can."""
    if not (checkpoint / WHOLE).exists():
        return "it is not whole"
    return next((f"{path.name}: {damage}" for path in checkpoint.iterdir() if (damage := _damage(path))), "")


def _damage(path: Path) -> str:
    """Why a file of a checkpoint cannot be read; empty if it can, or if nothing reads it."""
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt"):
                pass
        elif path.suffix in (".pt", ".pth"):
            with safe_globals():  # type: ignore[no-untyped-call]
                torch.load(path, map_location="cpu", weights_only=True)
        elif path.suffix == ".json":
            json.loads(path.read_bytes())
    except (OSError, ValueError, RuntimeError, EOFError, SafetensorError, pickle.UnpicklingError) as error:
        return f"{type(error).__name__}: {first_line(error)}"
    return ""


def trained_weights(model: ProfilePersonaModel) -> dict[str, torch.Tensor]:
    """Parameters that are not frozen."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def _evaluations(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [entry for entry in history if SCORE in entry]
