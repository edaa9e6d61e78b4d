"""From the tables of a dataset to its trained encoder; with torchrun on several devices, and without Dagster.

torchrun --standalone --nproc-per-node 4 -m personarank_dagster.encoding.train --dataset amazon
--personas P.parquet --histories H.parquet --selections S.parquet --out FOLDER
"""

import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import click
import msgspec
import numpy as np
import polars as pl
import torch
from dagster_pipes import open_dagster_pipes
from sentence_transformers import SentenceTransformer

from personarank_dagster.configuration.dataset import DatasetConfig, decode_settings, load_dataset
from personarank_dagster.configuration.dataset import config_dir as datasets_folder
from personarank_dagster.configuration.settings import TrainConfig
from personarank_dagster.core.encoders import EncoderInfo, Side
from personarank_dagster.core.histories import TrainingPairs, liked_interactions, liked_targets, training_pairs
from personarank_dagster.core.profiles import FloatArray, IntArray
from personarank_dagster.encoding.devices import TrainingPrecision, training_precision
from personarank_dagster.encoding.encoder import embedding_dimension, encode, load_model, model_fingerprint
from personarank_dagster.encoding.launch import end_with_parent
from personarank_dagster.encoding.training.batches import TrainingData, training_data
from personarank_dagster.encoding.training.callbacks import OnStep
from personarank_dagster.encoding.training.evaluation import Metrics
from personarank_dagster.encoding.training.neighbours import neighbours
from personarank_dagster.encoding.training.ranks import end_rank, rank_and_world
from personarank_dagster.encoding.training.trained_encoder import TrainedEncoder
from personarank_dagster.encoding.training.trainer import Training, TrainingRun, train_encoder_weights, train_head
from personarank_dagster.storage.encoder_directory import write_info

# Items of the user's neighbourhood that a held-out target is ranked against.
HARD_ITEMS = 50

# Written where a rank of several fails: its message, for whoever started them.
ERROR_FILE = "error-{rank}.txt"
COST_FILE = "cost.json"
ENCODER_FOLDER = "encoder"

# Set by Dagster Pipes in the processes that it starts.
PIPES_VARIABLE = "DAGSTER_PIPES_CONTEXT"

# (texts, model, its fingerprint, their side) -> vectors of the distinct texts, and the row of each text.
Embed = Callable[[pl.Series, SentenceTransformer, str, Side], tuple[FloatArray, IntArray]]


@dataclass(frozen=True)
class TrainingTables:
    """What a training reads: liked interactions, personas, and the pairs of profile windows and personas."""

    liked: pl.DataFrame
    personas: pl.DataFrame
    pairs: TrainingPairs


def training_tables(
    config: DatasetConfig, personas: pl.DataFrame, histories: pl.DataFrame, selections: pl.DataFrame
) -> TrainingTables:
    """The pairs of a dataset. Raises InputError if there are none."""
    liked = liked_interactions(histories, min_rating=config.train.min_rating)
    of_selections = config.train.pairs == "selections"
    targets = selections if of_selections else liked_targets(liked, selections, personas["item_id"].unique())
    pairs = training_pairs(targets, histories, liked, k=config.train.k_recent)
    return TrainingTables(liked, personas, pairs)


def train_encoder(
    config: DatasetConfig,
    tables: TrainingTables,
    embed: Embed,
    run: TrainingRun,
) -> TrainedEncoder:
    """Train the encoder that `train.yaml` asks for; with a folder for checkpoints, from the last one in it."""
    settings = config.train
    model = load_model(settings.st_path, max_len=settings.max_len, device=run.device, revision=settings.st_revision)
    base_fingerprint = model_fingerprint(model)
    if settings.tune == "head":
        training = _train_head(config, tables, model, embed, base_fingerprint, run)
        fingerprint = model_fingerprint(training.model)
    else:
        training = _train_weights(config, tables, model, run)
        base_fingerprint = fingerprint = model_fingerprint(training.model)
    info = EncoderInfo(
        st_path=settings.st_path,
        tune=settings.tune,
        max_len=settings.max_len,
        dimension=embedding_dimension(model),
        base_fingerprint=base_fingerprint,
        fingerprint=fingerprint,
    )
    return TrainedEncoder(info, training, settings, run.device, run.precision)


def _train_head(
    config: DatasetConfig,
    tables: TrainingTables,
    model: SentenceTransformer,
    embed: Embed,
    fingerprint: str,
    run: TrainingRun,
) -> Training:
    texts, persona_texts = _texts(config, tables)
    vectors, text_rows = embed(texts, model, fingerprint, "query")
    persona_vectors, persona_rows = embed(persona_texts, model, fingerprint, "document")
    return train_head(
        model,
        _data(config.train, tables, text_rows),
        config.train,
        run,
        interaction_vectors=vectors,
        persona_vectors=persona_vectors[persona_rows],
    )


def _train_weights(
    config: DatasetConfig,
    tables: TrainingTables,
    model: SentenceTransformer,
    run: TrainingRun,
) -> Training:
    texts, persona_texts = _texts(config, tables)
    distinct = texts.unique(maintain_order=True)
    text_rows = texts.replace_strict(distinct, pl.int_range(len(distinct), eager=True)).to_numpy()
    return train_encoder_weights(
        model,
        _data(config.train, tables, text_rows),
        config.train,
        run,
        interaction_texts=distinct.to_list(),
        persona_texts=persona_texts.to_list(),
    )


def _data(config: TrainConfig, tables: TrainingTables, text_rows: IntArray) -> TrainingData:
    count = max(HARD_ITEMS, config.hard_negatives)
    near = neighbours(tables.pairs, tables.liked, tables.personas["item_id"], count=count)
    return training_data(tables.pairs, text_rows, tables.personas, near)


def _texts(config: DatasetConfig, tables: TrainingTables) -> tuple[pl.Series, pl.Series]:
    return config.template.interaction_texts(tables.liked), config.template.persona_texts(tables.personas)


def encode_distinct(
    texts: pl.Series, model: SentenceTransformer, fingerprint: str, side: Side
) -> tuple[FloatArray, IntArray]:
    """Vectors of the distinct texts, kept nowhere, and the row of each text."""
    distinct = texts.unique(maintain_order=True)
    rows = texts.replace_strict(distinct, np.arange(len(distinct)), return_dtype=pl.Int64).to_numpy()
    return encode(model, distinct.to_list(), side=side), rows


@dataclass(frozen=True)
class RankJob:
    """What a rank does, the same for all: train from three tables, and have the first one write into a folder.

    The tables are those of personas, histories and selections. Without a precision that of `amp` and the device.
    """

    config: DatasetConfig
    tables: tuple[Path, Path, Path]
    out: Path
    checkpoints: Path | None
    device: str
    precision: TrainingPrecision | None
    memory_share: float


def train_rank(job: RankJob, on_step: OnStep) -> None:
    """Train as the rank that the environment says this process is, in the words of torchrun; alone without any."""
    if job.device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_per_process_memory_fraction(job.memory_share)
    tables = training_tables(job.config, *(pl.read_parquet(path) for path in job.tables))
    precision = job.precision or training_precision(job.config.train, job.device)
    run = TrainingRun(job.device, precision, on_step, job.checkpoints)
    trained = train_encoder(job.config, tables, encode_distinct, run)
    trained.check()
    if rank_and_world()[0] == 0:
        _write(trained, job.out)


_file = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option("--config-dir", type=Path, help="Folder of the datasets. [default: $PERSONARANK_CONFIG_DIR, ./configs]")
@click.option("--dataset", required=True, help="Name of the dataset: its train.yaml and rerank.yaml count.")
@click.option("--settings", type=_file, help="Settings as JSON, in place of the files of the dataset.")
@click.option("--personas", type=_file, required=True, help="Parquet of the asset personas.")
@click.option("--histories", type=_file, required=True, help="Parquet of the asset histories.")
@click.option("--selections", type=_file, required=True, help="Parquet of the asset selected_personas.")
@click.option("--out", type=Path, required=True, help="Folder for encoder/, cost.json and, after a failure, errors.")
@click.option("--checkpoints", type=Path, help="Folder to continue from, and to keep checkpoints in.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--precision", type=click.Choice(get_args(TrainingPrecision)), help="[default: as amp and device say]")
@click.option("--memory-share", type=click.FloatRange(0.05, 1), default=1.0, help="Share of each GPU's memory.")
def main(
    config_dir: Path | None,
    dataset: str,
    settings: Path | None,
    personas: Path,
    histories: Path,
    selections: Path,
    out: Path,
    checkpoints: Path | None,
    device: str,
    precision: TrainingPrecision | None,
    memory_share: float,
) -> None:
    """Train the encoder of a dataset from published tables; under torchrun on as many devices as it starts."""
    rank = int(os.environ.get("RANK", "0"))
    if "RANK" in os.environ:
        end_with_parent()
    out.mkdir(parents=True, exist_ok=True)
    try:
        files = datasets_folder(config_dir)
        config = decode_settings(settings.read_bytes()) if settings else load_dataset(files, dataset)
        tables = personas, histories, selections
        with _progress(rank) as on_step:
            train_rank(RankJob(config, tables, out, checkpoints, device, precision, memory_share), on_step)
    except Exception as error:
        (out / ERROR_FILE.format(rank=rank)).write_text(f"{type(error).__name__}: {error}")
        if rank_and_world()[1] == 1:
            raise
        traceback.print_exc()
        end_rank(1)
    if rank_and_world()[1] > 1:
        end_rank(0)


@contextmanager
def _progress(rank: int) -> Iterator[OnStep]:
    """Lines about the training, now and then, from the first rank: to Dagster where it started this, else here."""
    if rank != 0:
        yield lambda step, steps, numbers: None
    elif PIPES_VARIABLE in os.environ:
        with open_dagster_pipes() as pipes:
            yield throttled(pipes.log.info)
    else:
        yield throttled(lambda line: print(line, file=sys.stderr, flush=True))


def throttled(say: Callable[[str], object], seconds: float = 10) -> OnStep:
    """Says step, numbers and the time that is left at most every so many seconds, and every evaluation."""
    started = last = time.monotonic()
    first = 0

    def on_step(step: int, steps: int, numbers: Metrics) -> None:
        nonlocal last, first
        now = time.monotonic()
        first = first or step
        if "loss" in numbers and step < steps and now - last < seconds:
            return
        last = now
        left = (steps - step) * (now - started) / max(1, step - first)
        values = ", ".join(f"{name} {value:.4f}" for name, value in numbers.items())
        say(f"step {step}/{steps}, {left:.0f} s left: {values}")

    return on_step


def _write(trained: TrainedEncoder, out: Path) -> None:
    folder = out / ENCODER_FOLDER
    trained.save(folder)
    write_info(folder, trained.info)
    (out / COST_FILE).write_bytes(msgspec.json.encode(trained.cost()))


if __name__ == "__main__":
    main()
