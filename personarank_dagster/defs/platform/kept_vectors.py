"""The vectors that are kept for a dataset: what else they serve than the caches, and when they are let go."""

from personarank_dagster.core.errors import StorageError
from personarank_dagster.defs.platform.resources import ProjectResource
from personarank_dagster.ranking.ranker import VectorTable
from personarank_dagster.vectors.embeddings import TEXT_KEYS, made_with, read_embeddings
from personarank_dagster.vectors.matrices import read_array
from personarank_dagster.vectors.vector_store import prune_vectors

CACHES = ("interaction_cache", "persona_cache")


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
    """Remove the vectors of encoders that no version of a dataset is by: name of the store, bytes, whether in use.

    Before anything is published all stay, since the next run goes on with them; also if a version cannot be read.
    """
    encoders = project.versions("trained_encoder", partition)
    try:
        keep = {encoders.open(name).manifest.details["base_fingerprint"] for name in encoders.names()}
        for store in (project.versions(asset, partition) for asset in CACHES):
            # An external cache has no vectors here.
            keep |= {vectors for name in store.names() if (vectors := made_with(store.open(name)).vectors)}
    except StorageError:
        return []
    root = project.dataset(partition).data.out_root / "vectors"
    return list(prune_vectors(root, keep=keep, dry_run=dry_run)) if keep else []
