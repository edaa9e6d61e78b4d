"""The asset graph, stage by stage: raw files, tables, encoder, caches, reranked lists, metrics; and its checks."""

import dagster as dg

from personarank_dagster.defs.caches.assets import interaction_cache, persona_cache
from personarank_dagster.defs.caches.checks import cache_checks
from personarank_dagster.defs.inputs.assets import (
    candidates,
    ground_truth,
    histories,
    personas,
    raw_files,
    selected_personas,
)
from personarank_dagster.defs.inputs.checks import input_checks
from personarank_dagster.defs.ranking.assets import metrics_report, rerank_metrics, reranked_candidates
from personarank_dagster.defs.ranking.checks import ranking_checks
from personarank_dagster.defs.training.assets import trained_encoder
from personarank_dagster.defs.training.checks import encoder_checks

all_assets: list[dg.AssetsDefinition | dg.SourceAsset] = [
    *raw_files,
    *(personas, histories, selected_personas, candidates, ground_truth),
    trained_encoder,
    *(interaction_cache, persona_cache),
    *(reranked_candidates, rerank_metrics, metrics_report),
]

all_checks: list[dg.AssetChecksDefinition] = [*input_checks, *encoder_checks, *cache_checks, *ranking_checks]
