"""Versions of datasets that were removed or renamed: nothing reads them any more, and nothing removes them."""

from pathlib import Path

import dagster as dg

from personarank_dagster.configuration.dataset import dataset_names
from personarank_dagster.defs.platform.declarations import asset_names
from personarank_dagster.defs.platform.mounts import Mount


def abandoned_versions(mount: Mount, instance: dg.DagsterInstance) -> list[tuple[Path, str]]:
    """Folders of versions, and names in them that are no dataset's, as far as this instance saw them made."""
    names = {*dataset_names(mount.datasets_folder)}
    found = {
        (place.parents[1], partition)
        for asset in mount.keys(asset_names(partitioned=True))
        for partition in instance.get_materialized_partitions(asset) - names
        if (place := _place_of(instance, asset, partition)).is_dir()
    }
    return sorted(found)


def _place_of(instance: dg.DagsterInstance, asset: dg.AssetKey, partition: str) -> Path:
    """The folder of the versions of an asset and partition, by the path of the one that was made last."""
    wanted = dg.AssetRecordsFilter(asset_key=asset, asset_partitions=[partition])
    last = instance.fetch_materializations(wanted, limit=1).records[0].asset_materialization
    path = last and last.metadata.get("path")
    return Path(str(path.value)).parent if path else Path()
