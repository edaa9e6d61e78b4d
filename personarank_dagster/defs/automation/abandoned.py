"""Versions of datasets that were removed or renamed: nothing reads them any more, and nothing removes them."""

from contextlib import suppress
from pathlib import Path

import dagster as dg
from upath import UPath

from personarank_dagster.configuration.dataset import dataset_names
from personarank_dagster.configuration.out_roots import is_address
from personarank_dagster.core.errors import StorageError
from personarank_dagster.defs.platform.declarations import asset_names
from personarank_dagster.defs.platform.mounts import Mount
from personarank_dagster.storage.bucket import bucket_path, requests_to


def abandoned_versions(mount: Mount, instance: dg.DagsterInstance) -> list[tuple[str, str]]:
    """Places of versions, and names in them that are no dataset's, as far as this instance saw them made."""
    names = {*dataset_names(mount.datasets_folder)}
    found = {
        (str(place.parents[1]), partition)
        for asset in mount.keys(asset_names(partitioned=True))
        for partition in instance.get_materialized_partitions(asset) - names
        if (place := _place_of(instance, asset, partition)) and _is_there(place)
    }
    return sorted(found)


def _place_of(instance: dg.DagsterInstance, asset: dg.AssetKey, partition: str) -> Path | UPath | None:
    """Where the versions of an asset and partition are, by the path of the one that was made last."""
    wanted = dg.AssetRecordsFilter(asset_key=asset, asset_partitions=[partition])
    last = instance.fetch_materializations(wanted, limit=1).records[0].asset_materialization
    path = str(last.metadata["path"].value) if last and "path" in last.metadata else None
    if path is None:
        return None
    return (bucket_path(path) if is_address(path) else Path(path)).parent


def _is_there(place: Path | UPath) -> bool:
    """Whether it holds anything; of a store that does not answer nothing is known."""
    with suppress(StorageError, FileNotFoundError):
        if isinstance(place, Path):
            return place.is_dir()
        with requests_to(place):
            return any(True for _ in place.iterdir())
    return False
