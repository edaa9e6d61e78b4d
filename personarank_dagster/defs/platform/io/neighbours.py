"""What assets of others read of the graph: polars frames of what is published."""

from collections.abc import Callable
from typing import Any, get_args

import dagster as dg
import polars as pl

from personarank_dagster.core.errors import StorageError
from personarank_dagster.defs.platform.declarations import declared
from personarank_dagster.defs.platform.io.outputs import Outputs
from personarank_dagster.defs.platform.partitions import UNPARTITIONED
from personarank_dagster.defs.platform.resources import ProjectResource
from personarank_dagster.ranking.ranker import VectorTable
from personarank_dagster.storage.versions import Version


def frames_for_others(
    project: ProjectResource, context: dg.InputContext, keep: Callable[[Version], Version]
) -> object:
    """The frame of the partition that the input maps to; of several a dict by partition, of those that have one.

    Each is of the version that the run itself made, else of the current one. It is lazy where the annotation is.
    `keep` holds a version until the run ends. Raises StorageError where nothing is published.
    """
    asset = context.asset_key.path[-1]
    several = declared(asset).partitioned and context.has_asset_partitions
    datasets = list(context.asset_partition_keys) if several else [UNPARTITIONED]
    found = {name: _version(project.outputs(name), asset, context.step_context.run_id) for name in datasets}
    lazy = is_lazy(context.dagster_type.typing_type)
    frames = {
        name: frame_of(project.outputs(name), asset, keep(version), lazy=lazy)
        for name, version in found.items()
        if version
    }
    if not frames or (len(datasets) == 1 and not _is_by_partition(context)):
        return _only(asset, frames)
    return frames


def frame_of(outputs: Outputs, asset: str, version: Version, *, lazy: bool) -> object:
    """A version as a frame: vectors of a cache are a column of its index; an encoder is no frame, but its folder."""
    value = outputs.format(asset).read(version.directory, lazy=lazy)
    if isinstance(value, VectorTable):
        value = with_vectors(value)
    if isinstance(value, pl.DataFrame | pl.LazyFrame):
        return value.lazy() if lazy else value.lazy().collect()
    return value


def with_vectors(table: VectorTable) -> pl.DataFrame:
    """The index of a cache with the column `vector`, an fp32 array."""
    vectors = table.vectors[table.vector_rows].astype("float32")
    column = pl.Series("vector", vectors, dtype=pl.Array(pl.Float32, vectors.shape[1]))
    return table.index.drop("vector_row").with_columns(column)


def is_lazy(annotation: Any) -> bool:
    """Whether an input is annotated as LazyFrame, or as a dict of them by partition."""
    return pl.LazyFrame in (annotation, *get_args(annotation))


def _is_by_partition(context: dg.InputContext) -> bool:
    return len(get_args(context.dagster_type.typing_type)) == 2


def _version(outputs: Outputs, asset: str, run_id: str) -> Version | None:
    store = outputs.versions(asset)
    return store.made_by(run_id) or store.find_current()


def _only(asset: str, frames: dict[str, object]) -> object:
    if not frames:
        raise StorageError(f"{asset}: nothing published; materialise it first")
    return next(iter(frames.values()))
