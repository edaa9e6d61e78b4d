"""The vectors that are kept for a dataset: what else they serve than the caches, and when they are let go."""

from collections.abc import Collection
from pathlib import Path

from personarank_dagster.core.errors import StorageError
from personarank_dagster.defs.platform.resources import ProjectResource
from personarank_dagster.ranking.ranker import VectorTable
from personarank_dagster.vectors.embeddings import TEXT_KEYS, made_with, read_embeddings
from personarank_dagster.vectors.matrices import read_array
from personarank_dagster.vectors.vector_store import prune_vectors

CACHES = ("interaction_cache", "persona_cache")
# Every name begins with it.
ALL_STORES = ("",)


def untrained_tables(project: ProjectResource, partition: str) -> tuple[VectorTable, VectorTable] | None:
    """Both caches as the encoder without its heads would make them, for a baseline, from vectors that are kept.

    None if the caches are not there or not ours, or if a vector has been removed from the store.
    """
    tables = [_base_table(project, partition, asset) for asset in CACHES]
    return (tables[0], tables[1]) if tables[0] and tables[1] else None


def _base_table(project: ProjectResource, partition: str, asset: str) -> VectorTable | None:
    version = project.versions(asset, partition).find_current()
    if version is None or not (version.directory / TEXT_KEYS).exists():
        return None
    store = project.vectors(partition, made_with(version).vectors)
    places = store.places(read_array(version.directory / TEXT_KEYS))
    if (places < 0).any():
        return None
    return VectorTable(store.vectors(places), read_embeddings(version.directory).index)


def retire_vectors(project: ProjectResource, partition: str, *, dry_run: bool) -> list[tuple[str, int, bool]]:
    """Remove the vectors of encoders that no version of a dataset is by, and what killed writers left in the others.

    Gives the name of the store or file, its bytes, and whether it is in use.
    """
    keep = _encoders_in_use(project, partition)
    return list(prune_vectors(_root(project, partition), keep=keep, dry_run=dry_run))


def sweep_vectors(project: ProjectResource, partition: str) -> list[Path]:
    """Remove what killed writers left among the vectors, and return it."""
    root = _root(project, partition)
    return [root / name for name, *_ in prune_vectors(root, keep=ALL_STORES)]


def _encoders_in_use(project: ProjectResource, partition: str) -> Collection[str]:
    """Beginnings of the names of the stores that versions are by.

    All before anything is published, since the next run goes on with them; also if a version cannot be read.
    """
    encoders = project.versions("trained_encoder", partition)
    try:
        keep = {encoders.open(name).manifest.details["base_fingerprint"] for name in encoders.names()}
        for store in (project.versions(asset, partition) for asset in CACHES):
            # An external cache has no vectors here.
            keep |= {vectors for name in store.names() if (vectors := made_with(store.open(name)).vectors)}
    except StorageError:
        return ALL_STORES
    return keep or ALL_STORES


def _root(project: ProjectResource, partition: str) -> Path:
    return project.dataset(partition).data.out_root / "vectors"
