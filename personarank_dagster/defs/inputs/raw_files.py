"""The raw files in Dagster: observable sources, or copies of assets of others that stand for them."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from personarank_dagster.core.errors import PersonarankError
from personarank_dagster.defs.platform.declarations import RAW, with_resources
from personarank_dagster.defs.platform.lineage.snapshots import content_of
from personarank_dagster.defs.platform.mounts import Mount
from personarank_dagster.defs.platform.resources import ProjectResource
from personarank_dagster.defs.platform.retries import RETRIES

RAW_DESCRIPTIONS = {
    "persona": "Personas of every item.",
    "item_summary": "Summaries of every item, for histories and personas that lack them.",
    "loo_history": "Histories of every user without the held-out interaction.",
    "aspects": "Aspects of every review, for histories that lack them.",
    "selected": "Selections: which persona of an item a judge chose for a user.",
    "candidates": "The retriever's list of every user.",
    "gt": "The held-out item(s) of every user.",
    "reviews": "Who reviewed what: the activity and popularity behind the scenarios.",
    "raw_reviews": "Reviews as they were downloaded, of which all other files are made.",
    "raw_items": "What the source says of every item.",
}


def raw_files(mount: Mount) -> list[dg.AssetsDefinition | dg.SourceAsset]:
    """The raw files in a code location: observable sources, or copies of assets of others that stand for them."""
    given = mount.raw_assets
    return [_raw_copy(mount, key) if key in given else _raw_file(mount, key) for key in RAW_DESCRIPTIONS]


def _raw_file(mount: Mount, key: str) -> dg.SourceAsset:
    def raw_file(context: dg.OpExecutionContext, project: ProjectResource) -> dg.DataVersionsByPartition:
        found: dict[str, str | dg.DataVersion] = {}
        for name in project.mount.datasets:
            # A dataset that cannot be read costs no other; its own runs and the sensor say why.
            with suppress(PersonarankError):
                dataset = project.dataset(name)
                if key in dataset.data.raw_files:
                    found[name] = content_of(dataset, f"{RAW}/{key}")
        return dg.DataVersionsByPartition(found)

    given = with_resources(raw_file, mount)
    return dg.observable_source_asset(
        key=mount.key(f"{RAW}/{key}"),
        partitions_def=mount.partitions,
        group_name=mount.group_of("raw_files"),
        automation_condition=dg.AutomationCondition.on_cron("*/5 * * * *"),
        description=f"{RAW_DESCRIPTIONS[key]} The file `{key}` of data.yaml; its data version is a content hash.",
        tags=dict(mount.tags),
        required_resource_keys=given.keys,
    )(given.body)


def _raw_copy(mount: Mount, key: str) -> dg.AssetsDefinition:
    """A raw file that is the frame of an asset of others, as their IO manager loads it."""

    def copy(
        context: dg.AssetExecutionContext, frame: pl.DataFrame, project: ProjectResource
    ) -> dg.MaterializeResult[None]:
        dataset = project.dataset(context.partition_key)
        path = dataset.data.raw_files[key]
        write_aside(frame, path)
        version = dg.DataVersion(content_of(dataset, f"{RAW}/{key}"))
        metadata: dict[str, Any] = {"dagster/row_count": frame.height, "path": dg.MetadataValue.path(str(path))}
        return dg.MaterializeResult(data_version=version, metadata=metadata)

    given = with_resources(copy, mount)
    return dg.asset(
        key=mount.key(f"{RAW}/{key}"),
        ins={"frame": dg.AssetIn(key=mount.raw_assets[key])},
        partitions_def=mount.partitions,
        group_name=mount.group_of("raw_files"),
        kinds={"parquet"},
        owners=[*mount.owners],
        tags=dict(mount.tags),
        retry_policy=RETRIES,
        automation_condition=dg.AutomationCondition.eager(),
        description=f"{RAW_DESCRIPTIONS[key]} The rows of {mount.raw_assets[key].to_user_string()}, under the rules "
        f"of the file `{key}` of data.yaml; its data version is a content hash.",
        required_resource_keys=given.keys,
    )(given.body)


def write_aside(frame: pl.DataFrame, path: Path) -> None:
    """Write the frame as parquet; a file that is there is replaced by the whole new one, or stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        frame.write_parquet(unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
