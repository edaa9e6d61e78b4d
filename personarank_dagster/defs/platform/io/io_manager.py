"""The IO manager: every output is a version, published whole; every input is the version that the run sees."""

from typing import Any

import dagster as dg
import polars as pl
from dagster._core.types.dagster_type import DagsterTypeKind
from pydantic import PrivateAttr

from personarank_dagster.core.errors import ContractError
from personarank_dagster.core.quantities import with_units
from personarank_dagster.defs.platform.columns import described
from personarank_dagster.defs.platform.declarations import asset_names, declared
from personarank_dagster.defs.platform.io.neighbours import frames_for_others, is_lazy
from personarank_dagster.defs.platform.lineage.run_tags import tag_run
from personarank_dagster.defs.platform.lineage.snapshots import Sight
from personarank_dagster.defs.platform.partitions import UNPARTITIONED
from personarank_dagster.defs.platform.resources import ProjectResource
from personarank_dagster.defs.platform.retries import retried_if_passing
from personarank_dagster.defs.platform.steps import Handed
from personarank_dagster.storage.tables import TABLE, footer, pick_columns
from personarank_dagster.storage.versions import InUse, Version, VersionStore
from personarank_dagster.vectors.embeddings import INDEX


class VersionedIOManager(dg.ConfigurableIOManager):
    """Stores each asset's output as a version in the format of its kind (table, embeddings, encoder, metrics)."""

    project: ProjectResource
    # Versions that a step has opened; they are not removed before it has published.
    _in_use: dict[tuple[str, str], list[InUse]] = PrivateAttr(default_factory=dict)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Tag the run: every run has an IO manager, however it was launched."""
        if context.run and context.instance:
            tag_run(self.project, context.run, context.instance)

    @retried_if_passing()
    def handle_output(self, context: dg.OutputContext, obj: Handed | str) -> None:
        """Check the value, have it judged, and publish it: as the current version unless it is refused.

        Raises ContractError for a version that is refused; it stays for inspection, and nothing else changes.
        """
        if not isinstance(obj, Handed):
            return
        asset, sight = context.asset_key.path[-1], Sight.of(self.project, context)
        outputs = sight.snapshot.outputs
        store, form = outputs.versions(asset), outputs.format(asset)
        try:
            version = store.publish(
                lambda directory: {**obj.numbers, **form.write(obj.value, directory)},
                check=lambda: form.check(store.name, obj.value),
                judge=obj.judge,
                run_id=context.run_id,
                data_version=obj.data_version,
                provenance=obj.made_from,
            )
        finally:
            for in_use in self._in_use.pop((context.op_def.name, outputs.partition), []):
                in_use.close()
        if version.manifest.refusal:
            _report(context, version)
            _retire(store, outputs.keep)
            raise ContractError(_refused(store, version))
        if outputs.partition != UNPARTITIONED:
            outputs.sweep_staging(asset)
            outputs.refresh_links()
        _retire(store, outputs.keep)
        context.add_output_metadata(_metadata(version))

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Let go of what assets of others have read, which publish elsewhere."""
        for in_use in (one for opened in self._in_use.values() for one in opened):
            in_use.close()
        self._in_use.clear()

    @retried_if_passing()
    def load_input(self, context: dg.InputContext) -> Any:
        """Read the version that the run sees, or those of all partitions as a dict where the input spans several.

        None for an input that its asset does not read in this dataset, an empty one where the dataset has none.
        Assets of others get frames, see `frames_for_others`.
        """
        asset, reader = context.asset_key.path[-1], self._reader(context)
        if reader is None:
            return frames_for_others(self.project, context, lambda version: self._keep(context, "", version))
        sight = Sight.of(self.project, context)
        if sight.snapshot.dataset and context.dagster_type.kind == DagsterTypeKind.NULLABLE:
            if asset not in declared(reader).reads(sight.snapshot.dataset):
                return None
        elif sight.snapshot.dataset and not declared(asset).is_made(sight.snapshot.dataset):
            # Of the type that the step expects; its asset is not made there either.
            return context.dagster_type.typing_type()
        spans = sight.snapshot.partition == UNPARTITIONED and declared(asset).partitioned
        partition = sight.snapshot.partition
        found = {name: self._keep(context, partition, one) for name, one in sight.versions(asset).items()}
        if spans:
            return {version.manifest.partition: self._read(context, sight, version) for version in found.values()}
        return self._read(context, sight, found[asset])

    def _reader(self, context: dg.InputContext) -> str | None:
        """The asset of the graph that reads; None for one of others."""
        names = {self.project.mount.key(name).to_python_identifier(): name for name in asset_names()}
        return names.get(context.op_def.name)

    def _keep(self, context: dg.InputContext, partition: str, version: Version) -> Version:
        """Keep a version from being removed before the step has published."""
        in_use = version.hold()
        self._in_use.setdefault((context.op_def.name, partition), []).append(in_use)
        return in_use.version

    def _read(self, context: dg.InputContext, sight: Sight, version: Version) -> Any:
        """Read lazily where the annotation says LazyFrame, and only the `columns` of the metadata of the input."""
        asset, partition = version.manifest.asset, version.manifest.partition
        columns = (context.definition_metadata or {}).get("columns")
        lazy = is_lazy(context.dagster_type.typing_type)
        own = partition == sight.snapshot.partition
        form = (sight.snapshot.outputs if own else self.project.outputs(partition)).format(asset)
        value = form.read(version.directory, lazy=lazy or columns is not None)
        if not isinstance(value, pl.DataFrame | pl.LazyFrame):
            return value
        table = value if columns is None else pick_columns(f"{asset} ({partition})", value, columns)
        return table.lazy() if lazy else table.lazy().collect()


def _retire(store: VersionStore, keep: int) -> None:
    for name in store.removable(keep):
        store.remove(name)


def _refused(store: VersionStore, version: Version) -> str:
    current = store.current_name()
    stays = f"{current} stays current" if current else "nothing is current"
    return (
        f"{store.name}: refused: {version.manifest.refusal}; {stays}, and {version.name} is kept for inspection "
        "(`personarank versions`) until `personarank gc`"
    )


def _report(context: dg.OutputContext, version: Version) -> None:
    """Have the UI show what the checks found: as their own steps they do not run for a version that is refused."""
    manifest = version.manifest
    for verdict in manifest.checks or ():
        evaluation = dg.AssetCheckEvaluation(
            context.asset_key,
            verdict.check,
            verdict.passed,
            metadata=with_units(verdict.numbers),
            severity=dg.AssetCheckSeverity.ERROR,
            partition=None if manifest.partition == UNPARTITIONED else manifest.partition,
            blocking=True,
        )
        context.step_context.instance.report_dagster_event(_event(context, evaluation), run_id=context.run_id)


def _event(context: dg.OutputContext, evaluation: dg.AssetCheckEvaluation) -> dg.DagsterEvent:
    return dg.DagsterEvent(
        event_type_value=dg.DagsterEventType.ASSET_CHECK_EVALUATION.value,
        job_name=context.job_name,
        step_key=context.step_key,
        event_specific_data=evaluation,
    )


def _metadata(version: Version) -> dict[str, Any]:
    written = ("vectors", "dimension")
    numbers = {key: version.manifest.details[key] for key in written if key in version.manifest.details}
    return {
        **_table_metadata(version),
        **numbers,
        "path": dg.MetadataValue.path(version.address),
        "version": version.manifest.version,
        **with_units({"bytes": version.bytes}),
    }


def _table_metadata(version: Version) -> dict[str, Any]:
    """Rows and columns of the table of a version, or of the index of its vectors. No values: they may be reviews.

    Dagster's own name for the columns would have the page of the asset show those of the dataset that came last.
    """
    files = [entry.path for entry in version.manifest.files if entry.path in (TABLE, INDEX)]
    if not files:
        return {}
    rows, columns = footer(version.directory / files[0])
    return {"dagster/row_count": rows, "columns": described(columns)}
