"""The asset of the encoder."""

from functools import partial
from typing import Any

import dagster as dg
import msgspec
import polars as pl

from personarank_dagster.configuration.dataset import DatasetConfig
from personarank_dagster.core.texts import TEMPLATE_VERSION
from personarank_dagster.defs.platform.compute import ComputeResource
from personarank_dagster.defs.platform.declarations import GPU_STEP, graph_asset
from personarank_dagster.defs.platform.embedder import Embedder
from personarank_dagster.defs.platform.io.formats import EncoderFormat
from personarank_dagster.defs.platform.lineage.provenance import checkpoint_folder
from personarank_dagster.defs.platform.lineage.snapshots import BASE_MODEL
from personarank_dagster.defs.platform.resources import GpuResource, ProgressResource, ProjectResource
from personarank_dagster.defs.platform.steps import Step, left_out
from personarank_dagster.defs.training.checks import encoder_checks
from personarank_dagster.defs.training.pictures import training_curves
from personarank_dagster.defs.training.run import TrainingMeans, prepare, train, training_metadata
from personarank_dagster.storage.scratch import resumable_folder

# What a training does not depend on: its model counts by its content, devices and precision do not count at all.
NOT_DECIDING = ("st_path", "st_revision", "num_gpus", "checkpoint_seconds", "amp")


def training_settings(config: DatasetConfig) -> dict[str, object]:
    """Settings that decide an encoder; those of adapters and of pairs only where they change something."""
    settings = msgspec.structs.asdict(config.train)
    adapters = () if config.train.tune == "lora" else ("lora_r", "lora_alpha", "lora_dropout")
    pairs = ("pairs",) if config.train.pairs == "selections" else ()
    decides = {name: value for name, value in settings.items() if name not in (*NOT_DECIDING, *adapters, *pairs)}
    return {"template_version": TEMPLATE_VERSION, "template": config.template} | decides


@graph_asset(
    group="training",
    kinds={"pytorch", "huggingface"},
    settings=training_settings,
    contents=lambda config: (BASE_MODEL,),
    code_version="8",
    format=lambda schema: EncoderFormat({"train": "."}),
    checks=encoder_checks,
    **GPU_STEP,
)
def trained_encoder(
    context: dg.AssetExecutionContext,
    personas: pl.DataFrame,
    histories: pl.DataFrame,
    selected_personas: pl.DataFrame,
    project: ProjectResource,
    gpu: GpuResource,
    progress: ProgressResource,
    compute: ComputeResource,
) -> dg.MaterializeResult[Any]:
    """The encoder that puts profiles and personas into one space: a sentence-transformers directory.

    Learned from selections: the profile before a target item against the persona selected for it. Both caches are
    made with it. `out_root/train` always links to the current one.
    """
    step = Step.of(context, project)
    tables = {"personas": personas, "histories": histories, "selections": selected_personas}
    prepared = prepare(step.config, tables)
    config = step.config.with_revision(step.revision_of(BASE_MODEL))
    means = TrainingMeans.of(gpu, config.train)
    folder = checkpoint_folder(step.snapshot, step.made_from(), means.device, means.precision)
    with resumable_folder(*folder) as checkpoints:
        trained, skipped = train(
            context,
            config,
            tables,
            prepared,
            Embedder(step, gpu, progress, compute),
            means=means,
            checkpoints=checkpoints,
        )
        record = trained.record()
        used = gpu.description() | {"devices": means.processes, "training_precision": means.precision}
        numbers = training_metadata(record, trained.cost()) | used | left_out(skipped)
        return step.result(trained, numbers, gpu, pictures={"curves": partial(training_curves, record)})
