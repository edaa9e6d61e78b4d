"""Columns of the tables, as the UI shows them."""

import dagster as dg

from personarank_dagster.core import schemas
from personarank_dagster.core.schemas import Schema

# Of the histories, those that both kinds of reviews have; each materialisation shows all of its own.
COLUMNS: dict[str, Schema] = {
    "personas": schemas.PERSONAS,
    "histories": {
        name: dtype for name, dtype in schemas.histories("amazon").items() if name in schemas.histories("yelp")
    },
    "selected_personas": schemas.SELECTED_PERSONAS,
    "candidates": schemas.CANDIDATES,
    "ground_truth": schemas.GROUND_TRUTH,
    "interaction_cache": schemas.INTERACTION_INDEX,
    "persona_cache": schemas.PERSONA_INDEX,
    "reranked_candidates": schemas.RERANKED,
    "rerank_metrics": schemas.METRICS,
    "metrics_report": schemas.REPORT,
}


def table_schema(asset: str) -> dg.TableSchema:
    """Columns of an asset's table (of a cache: of its index)."""
    return dg.TableSchema([dg.TableColumn(name, str(dtype)) for name, dtype in COLUMNS[asset].items()])
