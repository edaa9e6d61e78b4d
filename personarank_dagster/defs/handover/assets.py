"""What comes after the lists, where export.yaml asks for it: a key-value store, and parquet for a warehouse."""

from typing import Any

import dagster as dg
import msgspec
import polars as pl

from personarank_dagster.configuration.dataset import DatasetConfig
from personarank_dagster.core import schemas
from personarank_dagster.core.errors import StorageError
from personarank_dagster.defs.platform.declarations import graph_asset
from personarank_dagster.defs.platform.io.formats import TableFormat
from personarank_dagster.defs.platform.resources import ProjectResource
from personarank_dagster.defs.platform.steps import Step
from personarank_dagster.handover.key_value import HandedOver, connect, hand_over
from personarank_dagster.handover.warehouse import write_version
from personarank_dagster.storage.tables import TABLE

LISTS, KEY_VALUE = "reranked_candidates", "key_value_lists"
# Nothing is configured, but the asset was materialised by name: it says so, and hands over nothing.
NOT_CONFIGURED = {"configured": False}


def redis_settings(config: DatasetConfig) -> dict[str, object]:
    """Where to, and how much."""
    return msgspec.structs.asdict(config.export.redis) if config.export.redis else {}


def parquet_settings(config: DatasetConfig) -> dict[str, object]:
    """Where to, and how many versions."""
    return msgspec.structs.asdict(config.export.parquet) if config.export.parquet else {}


@graph_asset(
    group="handover",
    kinds={"redis"},
    settings=redis_settings,
    wanted=lambda config: config.export.redis is not None,
    format=lambda schema: TableFormat(schemas.DIGESTS, ["user_id"]),
    checks=(),
    # A condition knows no configuration, and would ask for it everywhere.
    automation_condition=None,
)
def key_value_lists(
    context: dg.AssetExecutionContext, reranked_candidates: pl.LazyFrame, project: ProjectResource
) -> dg.MaterializeResult[Any]:
    """One row per user: a digest of the list that Redis or Valkey holds for them, so that only others are sent again.

    The lists themselves are in the store that export.yaml names, one value a user under a key of their version; the
    key that names the current version is written last.
    """
    step = Step.of(context, project)
    settings, version = step.config.export.redis, step.sight.version(LISTS).name
    if settings is None:
        return step.result(pl.DataFrame(schema=schemas.DIGESTS), NOT_CONFIGURED)
    with connect(settings) as client:
        sent = hand_over(
            client,
            reranked_candidates,
            settings,
            dataset=step.snapshot.partition,
            version=version,
            before=_before(step),
        )
    numbers = {"users": sent.digests.height, "sent": sent.sent, "copied": sent.copied, "removed": len(sent.removed)}
    return step.result(sent.digests, numbers | {"version": version})


@graph_asset(
    group="handover",
    kinds={"parquet"},
    settings=parquet_settings,
    wanted=lambda config: config.export.parquet is not None,
    format=lambda schema: TableFormat(schemas.HANDED_OVER, ["path"]),
    checks=(),
    code_version="2",
    # A condition knows no configuration, and would ask for it everywhere.
    automation_condition=None,
)
def warehouse_lists(
    context: dg.AssetExecutionContext, reranked_candidates: pl.LazyFrame, project: ProjectResource
) -> dg.MaterializeResult[Any]:
    """One row: the parquet file of the current lists in the folder or bucket that export.yaml names.

    Its columns are those of the lists but the nested ones, and event_timestamp; dataset and version are hive
    partitions, and the newest version is the current one.
    """
    step = Step.of(context, project)
    settings, version = step.config.export.parquet, step.sight.version(LISTS)
    if settings is None:
        return step.result(pl.DataFrame(schema=schemas.HANDED_OVER), NOT_CONFIGURED)
    written = write_version(
        reranked_candidates,
        settings,
        dataset=step.snapshot.partition,
        version=version.name,
        published=version.manifest.created,
        scratch=step.config.data.out_root / "scratch",
    )
    row = {"path": written.path, "rows": written.rows, "bytes": written.bytes}
    numbers = {**row, "removed": len(written.removed)}
    return step.result(pl.DataFrame([row], schema=schemas.HANDED_OVER), numbers)


def _before(step: Step) -> HandedOver | None:
    """What the store got the last time; None where that cannot be known, and all is sent."""
    try:
        version = step.outputs.versions(KEY_VALUE).find_current()
        lists = version.manifest.provenance.versions.get(LISTS) if version else None
        if version is None or lists is None:
            return None
        digests = pl.read_parquet(version.directory / TABLE)
    except (StorageError, OSError, pl.exceptions.PolarsError):
        return None
    return HandedOver(lists, dict(digests.select("user_id", "digest").rows()))
