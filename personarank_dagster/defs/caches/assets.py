"""The assets of both caches."""

from functools import partial
from typing import Any

import dagster as dg
import polars as pl

from personarank_dagster.configuration.dataset import DatasetConfig
from personarank_dagster.core import schemas
from personarank_dagster.core.histories import liked_interactions
from personarank_dagster.core.texts import TEMPLATE_VERSION
from personarank_dagster.defs.caches.build import CacheBuilder
from personarank_dagster.defs.caches.checks import caches_are_by_one_encoder, checks_of
from personarank_dagster.defs.caches.pictures import reuse_bars
from personarank_dagster.defs.platform.compute import ComputeResource
from personarank_dagster.defs.platform.declarations import GPU_STEP, graph_asset
from personarank_dagster.defs.platform.io.formats import EmbeddingsFormat
from personarank_dagster.defs.platform.lineage.snapshots import CACHE_MODEL, EXTERNAL
from personarank_dagster.defs.platform.resources import GpuResource, ProgressResource, ProjectResource
from personarank_dagster.defs.platform.steps import Step
from personarank_dagster.storage.encoder_directory import EncoderDirectory


def interaction_cache_settings(config: DatasetConfig) -> dict[str, object]:
    """Settings that decide the cache of interactions: their texts, and which of them are liked."""
    template = {
        "schema": config.data.schema,
        "with_aspects": config.template.with_aspects,
        "include_item_id": config.template.include_item_id,
    }
    return {"template_version": TEMPLATE_VERSION, "min_rating": config.train.min_rating, **template}


def persona_cache_settings(config: DatasetConfig) -> dict[str, object]:
    """Settings that decide the cache of personas: their texts, and the mode that both caches must share."""
    template = config.template
    return {
        "template_version": TEMPLATE_VERSION,
        "with_aspects": template.with_aspects,
        "include_item_id": template.include_item_id,
        "persona_fields": template.persona_fields,
    }


def interaction_cache_contents(config: DatasetConfig) -> tuple[str, ...]:
    """Names of what the cache of interactions is made with, if not by the trained encoder."""
    return _other_encoder(config, "ext_interaction_cache")


def persona_cache_contents(config: DatasetConfig) -> tuple[str, ...]:
    """Names of what the cache of personas is made with, if not by the trained encoder."""
    return _other_encoder(config, "ext_persona_cache")


def _other_encoder(config: DatasetConfig, key: str) -> tuple[str, ...]:
    if config.rerank.use_external_caches:
        return (f"{EXTERNAL}{key}",)
    return (CACHE_MODEL,) if config.rerank.model else ()


@graph_asset(
    group="caches",
    kinds={"numpy"},
    settings=interaction_cache_settings,
    contents=interaction_cache_contents,
    code_version="2",
    format=lambda schema: EmbeddingsFormat(schemas.INTERACTION_INDEX, ["user_id", "age"]),
    checks=checks_of("interaction_cache"),
    **GPU_STEP,
)
def interaction_cache(
    context: dg.AssetExecutionContext,
    histories: pl.DataFrame,
    trained_encoder: EncoderDirectory,
    project: ProjectResource,
    gpu: GpuResource,
    progress: ProgressResource,
    compute: ComputeResource,
) -> dg.MaterializeResult[Any]:
    """Unit fp16 vectors of the liked interactions, and an index with one row per interaction.

    From the histories, by the trained encoder; profiles are made from it.
    """
    step = Step.of(context, project)
    liked = liked_interactions(histories, min_rating=step.config.train.min_rating)
    cache, counts = CacheBuilder(step, gpu, progress, compute).interactions(liked, trained_encoder)
    return step.result(cache, counts, gpu, pictures={"reuse": partial(reuse_bars, counts)})


@graph_asset(
    group="caches",
    kinds={"numpy"},
    settings=persona_cache_settings,
    contents=persona_cache_contents,
    code_version="2",
    format=lambda schema: EmbeddingsFormat(schemas.PERSONA_INDEX, ["unique_persona_id"]),
    checks=(*checks_of("persona_cache"), caches_are_by_one_encoder),
    **GPU_STEP,
)
def persona_cache(
    context: dg.AssetExecutionContext,
    personas: pl.DataFrame,
    trained_encoder: EncoderDirectory,
    project: ProjectResource,
    gpu: GpuResource,
    progress: ProgressResource,
    compute: ComputeResource,
) -> dg.MaterializeResult[Any]:
    """Unit fp16 vectors of the personas, and an index with one row per persona, item by item.

    From the personas, by the trained encoder; candidates are scored with it.
    """
    step = Step.of(context, project)
    by_item = personas.sort("item_id", maintain_order=True)
    cache, counts = CacheBuilder(step, gpu, progress, compute).personas(by_item, trained_encoder)
    return step.result(cache, counts, gpu, pictures={"reuse": partial(reuse_bars, counts)})
