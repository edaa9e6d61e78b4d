"""The IO manager: every output is a version, published whole; every input is the version that CURRENT names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import dagster as dg
import msgspec
import polars as pl
from pydantic import PrivateAttr

from personarank_dagster.defs.platform.columns import described
from personarank_dagster.defs.platform.partitions import UNPARTITIONED
from personarank_dagster.defs.platform.provenance import provenance
from personarank_dagster.defs.platform.resources import ProjectResource
from personarank_dagster.defs.platform.retries import retried_if_passing
from personarank_dagster.defs.platform.run_tags import tag_run
from personarank_dagster.storage.manifests import Provenance
from personarank_dagster.storage.tables import TABLE, footer, pick_columns
from personarank_dagster.storage.versions import InUse, Version
from personarank_dagster.vectors.embeddings import INDEX

# Metadata under which an asset hands over the content hash of its value, so that it is not hashed twice.
DATA_VERSION = "data_version"


class VersionedIOManager(dg.ConfigurableIOManager):
    """Stores each asset's output as a version in the format of its kind (table, embeddings, encoder, metrics)."""

    project: ProjectResource
    # Data versions that each running step has read: (step, partition) -> upstream -> version.
    _loaded: dict[tuple[str, str], dict[str, str]] = PrivateAttr(default_factory=dict)
    _made_from: dict[tuple[str, str], Provenance] = PrivateAttr(default_factory=dict)
    # Versions that a step has opened; they are not removed before it has published.
    _in_use: dict[tuple[str, str], list[InUse]] = PrivateAttr(default_factory=dict)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Tag the run: every run has an IO manager, however it was launched."""
        if context.run and context.instance:
            tag_run(self.project, context.run, context.instance)

    @retried_if_passing()
    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Check the value, publish it as the current version, refresh the links for people."""
        asset = context.asset_key.path[-1]
        partition = context.partition_key if context.has_partition_key else UNPARTITIONED
        output = self.project.format(asset, partition)
        store = self.project.versions(asset, partition)
        step = (context.op_def.name, partition)
        made_from = self._made_from.pop(step, None) or provenance(self.project, asset, partition)
        inputs = made_from.inputs | self._loaded.pop(step, {})
        numbers = _numbers(context.output_metadata)
        try:
            version = store.publish(
                lambda directory: numbers | output.write(obj, directory),
                check=lambda: output.check(store.name, obj),
                run_id=context.run_id,
                data_version=str(context.output_metadata[DATA_VERSION].value),
                provenance=msgspec.structs.replace(made_from, inputs=dict(sorted(inputs.items()))),
            )
        finally:
            for in_use in self._in_use.pop(step, []):
                in_use.close()
        if partition != UNPARTITIONED:
            self.project.sweep_staging(asset, partition)
        if output.exports:
            self.project.refresh_links(partition)
        for name in store.removable(self.project.keep(partition)):
            store.remove(name)
        context.add_output_metadata(_metadata(version))

    @retried_if_passing()
    def load_input(self, context: dg.InputContext) -> Any:
        """Read the current version, or those of all partitions as a dict where the input spans several."""
        asset = context.asset_key.path[-1]
        if not context.has_asset_partitions:
            return self._load(context, asset, UNPARTITIONED)
        keys = context.asset_partition_keys
        if len(keys) == 1 and context.has_partition_key:
            return self._load(context, asset, keys[0])
        published = [key for key in keys if self.project.versions(asset, key).find_current()]
        return {key: self._load(context, asset, key) for key in published}

    def _load(self, context: dg.InputContext, asset: str, partition: str) -> Any:
        reader = context.partition_key if context.has_partition_key else UNPARTITIONED
        in_use = self.project.versions(asset, partition).use()
        version = in_use.version
        name = asset if partition == reader else f"{asset}[{partition}]"
        step = (context.op_def.name, reader)
        if step not in self._made_from:
            # Settings and raw files as they are when the step begins: an edit during a long training is not used.
            self._made_from[step] = provenance(self.project, context.op_def.name, reader)
        self._loaded.setdefault(step, {})[name] = version.manifest.data_version
        self._in_use.setdefault(step, []).append(in_use)
        return self._read(context, asset, partition, version.directory)

    def _read(self, context: dg.InputContext, asset: str, partition: str, directory: Path) -> Any:
        """Read lazily where the annotation says LazyFrame, and only the `columns` of the metadata of the input."""
        columns = (context.definition_metadata or {}).get("columns")
        lazy = _is_lazy(context.dagster_type.typing_type)
        value = self.project.format(asset, partition).read(directory, lazy=lazy or columns is not None)
        if not isinstance(value, pl.DataFrame | pl.LazyFrame):
            return value
        table = value if columns is None else pick_columns(f"{asset} ({partition})", value, columns)
        return table.lazy() if lazy else table.lazy().collect()


def _is_lazy(annotation: Any) -> bool:
    """Whether an input is annotated as LazyFrame, or as a dict of them by partition."""
    return pl.LazyFrame in (annotation, *get_args(annotation))


def _numbers(metadata: Mapping[str, Any]) -> dict[str, int | float]:
    """The numbers that the asset gave, for the manifest: what was read, what was left out."""
    values = {key: getattr(value, "value", value) for key, value in metadata.items()}
    return {key: value for key, value in values.items() if isinstance(value, int | float)}


def _metadata(version: Version) -> dict[str, Any]:
    written = ("vectors", "dimension")
    numbers = {key: version.manifest.details[key] for key in written if key in version.manifest.details}
    return {
        **_table_metadata(version),
        **numbers,
        "path": dg.MetadataValue.path(version.address),
        "version": version.manifest.version,
        "bytes": version.bytes,
    }


def _table_metadata(version: Version) -> dict[str, Any]:
    """Rows and columns of the table of a version, or of the index of its vectors. No values: they may be reviews."""
    files = [entry.path for entry in version.manifest.files if entry.path in (TABLE, INDEX)]
    if not files:
        return {}
    rows, columns = footer(version.directory / files[0])
    return {"dagster/row_count": rows, "dagster/column_schema": described(columns)}
