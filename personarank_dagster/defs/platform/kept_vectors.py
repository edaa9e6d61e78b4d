"""The vectors that are kept for a dataset: what else they serve than the caches, and when they are let go."""

from collections.abc import Collection, Sequence
from pathlib import Path

from personarank_dagster.core.errors import StorageError
from personarank_dagster.defs.platform.io.outputs import Outputs
from personarank_dagster.ranking.ranker import VectorTable
from personarank_dagster.storage.versions import Version
from personarank_dagster.vectors.embeddings import TEXT_KEYS, made_with, read_embeddings
from personarank_dagster.vectors.matrices import read_array
from personarank_dagster.vectors.vector_store import prune_vectors

CACHES = ("interaction_cache", "persona_cache")
# Every name begins with it.
ALL_STORES = ("",)


def untrained_tables(outputs: Outputs, caches: Sequence[Version]) -> list[VectorTable] | None:
    """Caches as the encoder without its heads would make them, for a baseline, from vectors that are kept.

    None if the caches are not ours, or if a vector has been removed from the store.
    """
    tables = [table for cache in caches if (table := _base_table(outputs, cache))]
    return tables if len(tables) == len(caches) else None


def _base_table(outputs: Outputs, cache: Version) -> VectorTable | None:
    if not (cache.directory / TEXT_KEYS).exists():
        return None
    store = outputs.vectors(made_with(cache).vectors)
    places = store.places(read_array(cache.directory / TEXT_KEYS))
    if (places < 0).any():
        return None
    return VectorTable(store.vectors(places), read_embeddings(cache.directory).index)


def retire_vectors(outputs: Outputs, *, dry_run: bool) -> list[tuple[str, int, bool]]:
    """Remove the vectors of encoders that no version of a dataset is by, and what killed writers left in the others.

    Gives the name of the store or file, its bytes, and whether it is in use.
    """
    keep = _encoders_in_use(outputs)
    return list(prune_vectors(outputs.folder / "vectors", keep=keep, dry_run=dry_run))


def sweep_vectors(outputs: Outputs) -> list[Path]:
    """Remove what killed writers left among the vectors, and return it."""
    root = outputs.folder / "vectors"
    return [root / name for name, *_ in prune_vectors(root, keep=ALL_STORES)]


def _encoders_in_use(outputs: Outputs) -> Collection[str]:
    """Beginnings of the names of the stores that versions are by.

    All before anything is published, since the next run goes on with them; also if a version cannot be read.
    """
    encoders = outputs.versions("trained_encoder")
    try:
        keep = {encoders.open(name).manifest.details["base_fingerprint"] for name in encoders.names()}
        for store in map(outputs.versions, CACHES):
            # An external cache has no vectors here.
            keep |= {vectors for name in store.names() if (vectors := made_with(store.open(name)).vectors)}
    except StorageError:
        return ALL_STORES
    return keep or ALL_STORES
