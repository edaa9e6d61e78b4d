"""Tables beside the caches, so that the page has something to show."""

from pathlib import Path

import polars as pl

from personarank_dagster.core import schemas
from personarank_dagster.defs.graph import output_format
from personarank_dagster.ranking.ranker import rerank
from personarank_dagster.storage.versions import Provenance, VersionStore
from tests.ranking.test_ranker import make_candidates
from tests.service.conftest import publish_all
from tests.serving.test_reranker import LIST, SETTINGS, publish, publish_caches

MARKUP = "<img src=x onerror=document.title=1>"


def publish_tables(root: Path) -> pl.DataFrame:
    """Lists of u1 to u5, the held-out item of each, and texts that hold markup; returns the lists."""
    tables = publish_caches(root, 0)
    lists = rerank(make_candidates({f"u{n}": LIST for n in range(1, 6)}), *tables.values(), k=3, gamma=0.6, alpha=0.7)
    publish_all(root)
    form, store = output_format("reranked_candidates", "amazon"), VersionStore(root / "versions", LISTS, "amazon")
    made_from = Provenance(code_version="1", inputs={})
    store.publish(
        lambda folder: {**form.write(lists, folder), **SETTINGS}, run_id="", data_version="e", provenance=made_from
    )
    first = lists.group_by("user_id", maintain_order=True).agg(pl.col("item_id").first())
    publish(root, "ground_truth", first)
    columns = schemas.histories("amazon")
    row = dict.fromkeys(columns) | {"position": 0, "item_id": "x", "rating": 5.0, "item_summary": MARKUP}
    publish(root, "histories", pl.DataFrame([row | {"user_id": f"u{n}"} for n in range(1, 6)], schema=columns))
    return lists


LISTS = "reranked_candidates"
