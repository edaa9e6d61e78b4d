"""The asset graph, stage by stage: raw files, tables, encoder, caches, reranked lists, metrics; and its checks."""

from typing import Any

import dagster as dg

from personarank_dagster.core.aspects import SchemaName
from personarank_dagster.defs.caches.assets import interaction_cache, persona_cache
from personarank_dagster.defs.handover.assets import key_value_lists, warehouse_lists
from personarank_dagster.defs.inputs.assets import (
    candidates,
    ground_truth,
    histories,
    personas,
    selected_personas,
)
from personarank_dagster.defs.inputs.raw_files import raw_files
from personarank_dagster.defs.platform.declarations import GraphAsset, asset_names, check_declarations, declared
from personarank_dagster.defs.platform.io.formats import OutputFormat
from personarank_dagster.defs.platform.mounts import Mount
from personarank_dagster.defs.platform.published_checks import asset_check
from personarank_dagster.defs.preparation.assets import (
    item_personas,
    item_summaries,
    items,
    persona_selections,
    review_aspects,
    reviews,
    split,
)
from personarank_dagster.defs.ranking.assets import metrics_report, rerank_metrics, reranked_candidates
from personarank_dagster.defs.training.assets import trained_encoder

ASSETS: tuple[GraphAsset, ...] = (
    *(reviews, items, split),
    *(item_summaries, review_aspects, item_personas, persona_selections),
    *(personas, histories, selected_personas, candidates, ground_truth),
    trained_encoder,
    *(interaction_cache, persona_cache),
    *(reranked_candidates, rerank_metrics, metrics_report),
    *(key_value_lists, warehouse_lists),
)


def all_assets(mount: Mount) -> list[dg.AssetsDefinition | dg.SourceAsset]:
    """The graph in a code location, raw files first."""
    assets = [asset(mount) for asset in ASSETS]
    check_declarations({asset.key.path[-1]: asset for asset in assets})
    return [*raw_files(mount), *assets]


def all_checks(mount: Mount) -> list[dg.AssetChecksDefinition]:
    """The checks of all assets in a code location, but for how old the metrics are."""
    return [asset_check(check, mount) for asset in asset_names() for check in declared(asset).checks]


def output_format(asset: str, schema: SchemaName) -> OutputFormat[Any]:
    """Format of an asset's output in a dataset of this schema."""
    return declared(asset).format(schema)
