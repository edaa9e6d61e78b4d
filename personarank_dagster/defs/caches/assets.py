"""The assets of both caches."""

from functools import partial

import dagster as dg
import polars as pl

from personarank_dagster.core.histories import liked_interactions
from personarank_dagster.defs.caches.build import CacheBuilder
from personarank_dagster.defs.caches.pictures import reuse_bars
from personarank_dagster.defs.platform.declaration import GPU_STEP, graph_asset, result
from personarank_dagster.defs.platform.resources import GpuResource, ProgressResource, ProjectResource
from personarank_dagster.ranking.ranker import VectorTable
from personarank_dagster.storage.encoder_directory import EncoderDirectory


@graph_asset("interaction_cache", "caches", {"numpy"}, **GPU_STEP)
def interaction_cache(
    context: dg.AssetExecutionContext,
    histories: pl.DataFrame,
    trained_encoder: EncoderDirectory,
    project: ProjectResource,
    gpu: GpuResource,
    progress: ProgressResource,
) -> dg.MaterializeResult[VectorTable]:
    """Unit fp16 vectors of the liked interactions, and an index with one row per interaction.

    From the histories, by the trained encoder; profiles are made from it.
    """
    config = project.dataset(context.partition_key)
    liked = liked_interactions(histories, min_rating=config.train.min_rating)
    cache, counts = CacheBuilder(context, project, gpu, progress).interactions(liked, trained_encoder)
    return result(project, context, cache, counts, pictures={"reuse": partial(reuse_bars, counts)})


@graph_asset("persona_cache", "caches", {"numpy"}, **GPU_STEP)
def persona_cache(
    context: dg.AssetExecutionContext,
    personas: pl.DataFrame,
    trained_encoder: EncoderDirectory,
    project: ProjectResource,
    gpu: GpuResource,
    progress: ProgressResource,
) -> dg.MaterializeResult[VectorTable]:
    """Unit fp16 vectors of the personas, and an index with one row per persona, item by item.

    From the personas, by the trained encoder; candidates are scored with it.
    """
    by_item = personas.sort("item_id", maintain_order=True)
    cache, counts = CacheBuilder(context, project, gpu, progress).personas(by_item, trained_encoder)
    return result(project, context, cache, counts, pictures={"reuse": partial(reuse_bars, counts)})
