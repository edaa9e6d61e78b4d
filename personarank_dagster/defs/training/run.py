"""Run a training for the asset: in this process or, on several devices, as ranks that torchrun starts."""

import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import msgspec
import polars as pl
from dagster._core.errors import DagsterPipesExecutionError

from personarank_dagster.configuration.dataset import DatasetConfig, encode_settings
from personarank_dagster.configuration.settings import TrainConfig
from personarank_dagster.core.encoders import TRAINING_JSON, EncoderInfo
from personarank_dagster.core.errors import EncoderError
from personarank_dagster.defs.platform.compute import ComputeResource
from personarank_dagster.defs.platform.embedder import Embedder
from personarank_dagster.defs.platform.resources import GpuResource
from personarank_dagster.storage.disk import storage_errors
from personarank_dagster.storage.encoder_directory import open_encoder

if TYPE_CHECKING:
    from personarank_dagster.distributed.cluster import Cluster
    from personarank_dagster.encoding.devices import TrainingPrecision
    from personarank_dagster.encoding.train import TrainingTables
    from personarank_dagster.encoding.training.trained_encoder import TrainedEncoder

# Until the first observation of a training; each one takes twice as long as that before it.
OBSERVATION_SECONDS = 60

# What matters first: whether training helped.
HEADLINE = ("ndcg@10_blend", "accuracy@1")

# What stands in an evaluation beside the metrics.
NO_METRICS = ("step", "best_by", "standard_error")

Numbers = Mapping[str, float]
OnStep = Callable[[int, int, Numbers], None]
Tables = Mapping[str, pl.DataFrame]


@dataclass(frozen=True)
class TrainingMeans:
    """What a training computes on, by the resources: so many processes on a kind of device, here or on a cluster."""

    device: str
    processes: int
    precision: "TrainingPrecision"
    memory_share: float
    cluster: "Cluster | None" = None

    @classmethod
    def of(cls, gpu: GpuResource, compute: ComputeResource, config: TrainConfig) -> "TrainingMeans":
        """`num_gpus` devices; one of this machine for heads. Raises ConfigError if the resource has fewer."""
        of_heads = config.tune == "head"
        if not of_heads and (cluster := compute.cluster()):
            precision = compute.training_precision(gpu, config)
            return cls(cluster.device, config.num_gpus, precision, gpu.memory_share, cluster)
        processes = len(gpu.torch_devices(1 if of_heads else config.num_gpus))
        return cls(gpu.torch_device(), processes, gpu.training_precision(config), gpu.memory_share)


@dataclass(frozen=True)
class WrittenEncoder:
    """An encoder that other processes trained and wrote into a folder."""

    info: EncoderInfo
    folder: Path
    costs: Mapping[str, float]

    def check(self) -> None:
        """Nothing: the ranks have checked it before they wrote it."""

    def save(self, directory: Path) -> None:
        """Copy it."""
        shutil.copytree(self.folder, directory, dirs_exist_ok=True)

    def cost(self) -> Mapping[str, float]:
        """What the training took, as the first rank measured it."""
        return self.costs

    def record(self) -> dict[str, Any]:
        """The content of `training.json`."""
        record: dict[str, Any] = msgspec.json.decode((self.folder / TRAINING_JSON).read_bytes())
        return record


def prepare(config: DatasetConfig, tables: Tables) -> "TrainingTables":
    """The pairs to train on. Raises InputError if there are none: no model is needed to know that."""
    from personarank_dagster.encoding.train import training_tables

    return training_tables(config, *tables.values())


def train(
    context: dg.AssetExecutionContext,
    config: DatasetConfig,
    tables: Tables,
    prepared: "TrainingTables",
    embedder: Embedder,
    *,
    means: TrainingMeans,
    checkpoints: Path,
) -> tuple["TrainedEncoder | WrittenEncoder", Mapping[str, int]]:
    """The trained encoder, and how many selections were left out, by reason."""
    from personarank_dagster.encoding.train import train_encoder
    from personarank_dagster.encoding.training.trainer import TrainingRun, all_steps

    left_out = prepared.pairs.left_out
    if means.processes > 1 or means.cluster:
        return train_on_ranks(context, config, tables, means=means, checkpoints=checkpoints), left_out
    steps = all_steps(prepared.pairs.frame.height, config.train)
    with embedder.progress.track(context, "training", steps) as advance, storage_errors(checkpoints):
        run = TrainingRun(means.device, means.precision, observer(context, advance), checkpoints)
        trained = train_encoder(config, prepared, embedder.by_model, run)
    return trained, left_out


def observer(context: dg.AssetExecutionContext, advance: Callable[[int], None]) -> OnStep:
    """Moves the progress on, and observes the asset with the newest numbers of the training, ever more seldom."""
    began, wait = time.monotonic(), OBSERVATION_SECONDS
    newest: dict[str, float] = {}

    def on_step(step: int, steps: int, numbers: Numbers) -> None:
        nonlocal wait
        newest.update(numbers)
        if "loss" in numbers:
            advance(1)
        if time.monotonic() - began >= wait:
            wait *= 2
            found = {"step": step, "steps": steps, **newest}
            context.log_event(dg.AssetObservation(context.asset_key, partition=context.partition_key, metadata=found))

    return on_step


def train_on_ranks(
    context: dg.AssetExecutionContext,
    config: DatasetConfig,
    tables: Tables,
    *,
    means: TrainingMeans,
    checkpoints: Path,
) -> WrittenEncoder:
    """Train on several devices, or in as many CPU processes, of this machine or of a cluster; the first one reports.

    Raises EncoderError with the message of the rank that failed first.
    """
    out = checkpoints / "ranks"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    for name, table in tables.items():
        table.write_parquet(out / f"{name}.parquet")
    if means.cluster:
        _train_on_ray(context, config, tables, means, means.cluster, out)
    else:
        _train_by_torchrun(context, config, tables, means, out)
    costs: dict[str, float] = msgspec.json.decode((out / "cost.json").read_bytes())
    encoder = open_encoder(out / "encoder")
    return WrittenEncoder(encoder.info, encoder.path, costs)


def _train_by_torchrun(
    context: dg.AssetExecutionContext, config: DatasetConfig, tables: Tables, means: TrainingMeans, out: Path
) -> None:
    (out / "settings.json").write_bytes(encode_settings(config))
    inputs = [argument for name in tables for argument in (f"--{name}", str(out / f"{name}.parquet"))]
    command = [
        *(sys.executable, "-m", "personarank_dagster.encoding.launch", "--standalone"),
        *("--nproc-per-node", str(means.processes), "-m", "personarank_dagster.encoding.train"),
        *("--settings", str(out / "settings.json"), "--dataset", config.name, "--device", means.device),
        *("--precision", means.precision, "--memory-share", str(means.memory_share)),
        *("--out", str(out), "--checkpoints", str(out.parent), *inputs),
    ]
    try:
        dg.PipesSubprocessClient().run(command=command, context=context)
    except DagsterPipesExecutionError as error:
        raise EncoderError(first_error(out) or f"trained_encoder: torchrun failed: {error}") from error


def _train_on_ray(
    context: dg.AssetExecutionContext,
    config: DatasetConfig,
    tables: Tables,
    means: TrainingMeans,
    cluster: "Cluster",
    out: Path,
) -> None:
    from personarank_dagster.distributed.training import train_on_ray
    from personarank_dagster.encoding.train import RankJob

    personas, histories, selections = (out / f"{name}.parquet" for name in tables)
    files = personas, histories, selections
    job = RankJob(config, files, out, out.parent, means.device, means.precision, means.memory_share)
    train_on_ray(job, means.processes, cluster, context.log.info)


def first_error(out: Path) -> str | None:
    """Message of the rank that failed first: the others fail because of it."""
    files = sorted(out.glob("error-*.txt"), key=lambda path: path.stat().st_mtime_ns)
    if not files:
        return None
    rank = files[0].stem.partition("-")[2]
    return f"trained_encoder: rank {rank} failed: {files[0].read_text()}"


def training_metadata(record: Mapping[str, Any], cost: Numbers) -> dict[str, Any]:
    """Numbers that the UI plots from training to training."""
    losses, base, final = record["losses"], record["base"], record["final"]
    sides = {"base": base, "final": final}
    first = {f"{side} {name}": of_side[name] for name in HEADLINE for side, of_side in sides.items() if of_side}
    return first | {
        "best_step": record["best_step"],
        "steps": len(losses),
        "first_loss": losses[0],
        "last_loss": losses[-1],
        **{f"base {name}": value for name, value in base.items() if name not in NO_METRICS},
        **{f"final {name}": value for name, value in final.items() if name not in NO_METRICS},
        **cost,
    }
