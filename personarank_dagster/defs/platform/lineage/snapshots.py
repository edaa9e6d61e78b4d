"""What a run began with: resolved once, and the same for each of its steps, in whichever process it runs.

The first step that asks writes it into the event log of the run, which all processes of a run share; of two that ask
at once, the one that wrote first counts for both.
"""

from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import dagster as dg
import msgspec
from dagster._core.events import EngineEventData

from personarank_dagster.configuration.dataset import DatasetConfig
from personarank_dagster.core.errors import InputError, StorageError
from personarank_dagster.defs.platform.declarations import RAW, asset_names, declared
from personarank_dagster.defs.platform.io.outputs import Outputs
from personarank_dagster.defs.platform.partitions import UNPARTITIONED
from personarank_dagster.defs.platform.resources import ProjectResource
from personarank_dagster.preparation.prompt_files import load_prompts
from personarank_dagster.raw.parts import parts_version
from personarank_dagster.storage.disk import content_hash
from personarank_dagster.storage.known_hashes import file_version
from personarank_dagster.storage.versions import Version
from personarank_dagster.vectors.external_caches import FILES as EXTERNAL_FILES

# Names of contents beside the raw files.
BASE_MODEL, CACHE_MODEL = "model/st_path", "model/model"
EXTERNAL = "external/"
PROMPT = "prompt"

# Of a run with two graphs each has its own.
MARK = "personarank/snapshot"


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Settings, contents of raw files and models by name, and the versions that were current, by asset.

    Of a partition that is no dataset, `dataset` is None, and versions are by `asset[partition]`.
    """

    partition: str
    outputs: Outputs
    dataset: DatasetConfig | None
    contents: dict[str, str]
    versions: dict[str, str]

    @property
    def config(self) -> DatasetConfig:
        """Settings of the dataset."""
        assert self.dataset is not None
        return self.dataset

    def fingerprint(self) -> str:
        """Content hash of all that the dataset's results come from: code, settings, raw files, models."""
        assets = [declared(name) for name in asset_names(partitioned=True)]
        settings = [(one.name, one.code_version, sorted(one.settings(self.config).items())) for one in assets]
        return content_hash(repr(settings), *(f"{name} {content}" for name, content in self.contents.items()))


def take_snapshot(project: ProjectResource, partition: str) -> Snapshot:
    """What a run of this partition would begin with now."""
    outputs = project.outputs(partition)
    if partition == UNPARTITIONED:
        return Snapshot(
            partition=partition, outputs=outputs, dataset=None, contents={}, versions=_of_all_partitions(project)
        )
    config = project.dataset(partition)
    contents = {name: content_of(config, name) for name in _content_names(config)}
    return Snapshot(
        partition=partition,
        outputs=outputs,
        dataset=config,
        contents=contents,
        versions=_current(outputs, asset_names(partitioned=True)),
    )


def begun_with(
    project: ProjectResource, instance: dg.DagsterInstance, run: dg.DagsterRun, partition: str
) -> Snapshot:
    """What a run began with: as it was recorded, or recorded now by its first step."""
    mark = "/".join(filter(None, (MARK, project.mount.namespace)))
    known = _memory.get((run.run_id, mark))
    if known is None or known.partition != partition:
        found = _recorded(instance, run.run_id, mark)
        if found is None:
            _record(instance, run, take_snapshot(project, partition), mark)
            found = _recorded(instance, run.run_id, mark)
        assert found is not None
        # The log keeps it; this saves a process from reading it for every input and output.
        for old in [one for one in _memory if one[0] != run.run_id]:
            del _memory[old]
        _memory[run.run_id, mark] = known = found
    return known


# By run, and by the mark of the graph.
_memory: dict[tuple[str, str], Snapshot] = {}


def content_of(config: DatasetConfig, name: str) -> str:
    """Content of a raw file, a model or other files of a dataset as it is now, by its name in a snapshot."""
    kind, _, key = name.partition("/")
    if kind == RAW:
        if key in config.given and not config.data.raw_files[key].exists():
            return ""
        return parts_version(config.data.raw_files[key], _hashes(config))
    if kind == PROMPT and config.prepare:
        return content_hash(load_prompts(config.prepare.prompts)[key].text)
    if name.startswith(EXTERNAL):
        folder = Path(str(getattr(config.rerank, key)))
        return content_hash(*(file_version(folder / file, _hashes(config)) for file in EXTERNAL_FILES[key]))
    from personarank_dagster.encoding.model_contents import model_content

    model = model_of(config, name)
    return model_content(model, config.revision_of(model), config.data.out_root)


def model_of(config: DatasetConfig, name: str) -> str:
    """The model of a dataset that has this name in its snapshots."""
    return config.train.st_path if name == BASE_MODEL else str(config.rerank.model)


def check_contents(config: DatasetConfig, expected: dict[str, str]) -> None:
    """Raise InputError if a content is not what the run began with."""
    # A commit of the hub is what it is; that it was pinned meanwhile changes nothing.
    own = {name: content for name, content in expected.items() if "@" not in content}
    if changed := [name for name, content in own.items() if content_of(config, name) != content]:
        raise InputError(
            f"{config.name}: {', '.join(changed)} must stay as it is while a run reads it, and changed since the run "
            "began; run again"
        )


def _content_names(config: DatasetConfig) -> list[str]:
    names = [f"{RAW}/{key}" for key in config.data.raw_files]
    declared_contents = (declared(asset).contents(config) for asset in asset_names(partitioned=True))
    return names + list(dict.fromkeys(name for of_asset in declared_contents for name in of_asset))


def _hashes(config: DatasetConfig) -> Path:
    return config.data.out_root / "raw_files.json"


def _current(outputs: Outputs, assets: list[str]) -> dict[str, str]:
    found = {asset: outputs.versions(asset).current_name() for asset in assets}
    return {asset: name for asset, name in found.items() if name is not None}


def _of_all_partitions(project: ProjectResource) -> dict[str, str]:
    """Current versions of every asset in every partition, by `asset[partition]`; one that is lost costs no other."""
    found: dict[str, str] = {}
    for (key, outputs), asset in product(project.all_outputs().items(), asset_names(partitioned=True)):
        with suppress(StorageError):
            found |= {f"{asset}[{key}]": version for version in _current(outputs, [asset]).values()}
    return found


def _record(instance: dg.DagsterInstance, run: dg.DagsterRun, snapshot: Snapshot, mark: str) -> None:
    content = msgspec.json.encode(snapshot, enc_hook=str).decode()
    instance.report_engine_event(
        "What this run begins with: settings, contents, versions.",
        run,
        EngineEventData(metadata={mark: dg.MetadataValue.text(content)}),
    )


def _recorded(instance: dg.DagsterInstance, run_id: str, mark: str) -> Snapshot | None:
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
        data: Any = entry.dagster_event.event_specific_data if entry.dagster_event else None
        if data and mark in (data.metadata or {}):
            return msgspec.json.decode(data.metadata[mark].value, type=Snapshot, dec_hook=lambda _, text: Path(text))
    return None


# Contexts of Dagster that know their run: of an asset, a check, an input, an output.
Context = dg.AssetExecutionContext | dg.AssetCheckExecutionContext | dg.InputContext | dg.OutputContext


@dataclass(frozen=True)
class Sight:
    """The versions that a run sees of a partition: those that it made itself, else those that it began with."""

    project: ProjectResource
    snapshot: Snapshot
    run_id: str

    @classmethod
    def of(cls, project: ProjectResource, context: Context) -> "Sight":
        """What the run of this context sees of the partition of this context."""
        partition = context.partition_key if context.has_partition_key else UNPARTITIONED
        if isinstance(context, dg.AssetExecutionContext | dg.AssetCheckExecutionContext):
            run, instance = context.run, context.instance
        else:
            run, instance = context.step_context.dagster_run, context.step_context.instance
        return cls(project, begun_with(project, instance, run, partition), run.run_id)

    def versions(self, asset: str) -> dict[str, Version]:
        """The versions of an upstream asset, by the names that provenance has for them. None is there twice."""
        if self.snapshot.partition != UNPARTITIONED:
            return {asset: self.version(asset)}
        found = {f"{asset}[{key}]": outputs for key, outputs in self.project.all_outputs().items()}
        seen = {name: self._find(outputs, asset, name) for name, outputs in found.items()}
        return {name: version for name, version in seen.items() if version}

    def version(self, asset: str) -> Version:
        """The version of an asset of this partition. Raises StorageError if there is none that was judged."""
        version = self._find(self.snapshot.outputs, asset, asset)
        if version is None:
            raise StorageError(f"{asset} ({self.snapshot.partition}): nothing published; materialise it first")
        if version.manifest.checks is None:
            raise StorageError(
                f"{asset} ({self.snapshot.partition}): {version.name} was made by an earlier release, without a "
                f"verdict of its checks; `personarank run --partition {self.snapshot.partition}` makes it anew"
            )
        return version

    def find(self, asset: str) -> Version | None:
        """As `version`, but None where nothing was ever published."""
        return self._find(self.snapshot.outputs, asset, asset)

    def _find(self, outputs: Outputs, asset: str, name: str) -> Version | None:
        store = outputs.versions(asset)
        began_with = self.snapshot.versions.get(name)
        return store.made_by(self.run_id) or (store.open(began_with) if began_with else None)
