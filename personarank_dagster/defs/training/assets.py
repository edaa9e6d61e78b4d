"""The asset of the encoder."""

from functools import partial
from typing import Any

import dagster as dg
import polars as pl

from personarank_dagster.defs.platform.declaration import GPU_STEP, graph_asset, left_out, result
from personarank_dagster.defs.platform.embedder import Embedder
from personarank_dagster.defs.platform.provenance import checkpoint_folder
from personarank_dagster.defs.platform.resources import GpuResource, ProgressResource, ProjectResource
from personarank_dagster.defs.training.pictures import training_curves
from personarank_dagster.defs.training.run import TrainingMeans, train, training_metadata
from personarank_dagster.storage.scratch import resumable_folder


@graph_asset("trained_encoder", "training", {"pytorch", "huggingface"}, **GPU_STEP)
def trained_encoder(
    context: dg.AssetExecutionContext,
    personas: pl.DataFrame,
    histories: pl.DataFrame,
    selected_personas: pl.DataFrame,
    project: ProjectResource,
    gpu: GpuResource,
    progress: ProgressResource,
) -> dg.MaterializeResult[Any]:
    """The encoder that puts profiles and personas into one space: a sentence-transformers directory.

    Learned from selections: the profile before a target item against the persona selected for it. Both caches are
    made with it. `out_root/train` always links to the current one.
    """
    config = project.dataset(context.partition_key)
    means = TrainingMeans.of(gpu, config.train)
    tables = {"personas": personas, "histories": histories, "selections": selected_personas}
    folder = checkpoint_folder(project, context.partition_key, means.device, means.precision)
    with resumable_folder(*folder) as checkpoints:
        trained, skipped = train(
            context,
            config,
            tables,
            Embedder(context, project, gpu, progress),
            means=means,
            checkpoints=checkpoints,
        )
        record = trained.record()
        used = gpu.description() | {"devices": means.processes, "training_precision": means.precision}
        numbers = training_metadata(record, trained.cost()) | used | left_out(skipped)
        return result(project, context, trained, numbers, pictures={"curves": partial(training_curves, record)})
