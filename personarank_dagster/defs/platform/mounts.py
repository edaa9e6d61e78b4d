"""Where a graph stands in a code location: its datasets, where its outputs go, what its definitions are called."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import dagster as dg

from personarank_dagster.configuration.dataset import DatasetConfig, config_dir, dataset_names
from personarank_dagster.configuration.dataset_folder import DatasetFolder
from personarank_dagster.configuration.out_roots import OutRoot, Override, shared_out_root

# The code location of the UI, and what it loads, where the graph stands in no project of others.
LOCATION, MODULE = "personarank_dagster", "personarank_dagster.definitions"

# Whom the UI names; put your own team here, or name it in defs.yaml.
OWNERS = ("team:recommendation",)

# Dagster allows nothing else in the names of jobs, schedules, sensors and resources.
NO_NAME = re.compile(r"\W+", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Mount:
    """One graph, of which a code location can have several.

    Without a `folder` datasets and outputs are where the environment says, each time they are asked for, else in the
    current one. `namespace` begins the names of jobs, schedules, sensors and resources; `group` is that of all
    assets, else each stage has its own. `location` is the code location, whose `module` Dagster loads. `raw_assets`
    are assets of others that stand for raw files, by their keys in data.yaml.
    """

    folder: Path | None = None
    override: Override | None = None
    key_prefix: tuple[str, ...] = ()
    namespace: str = ""
    group: str | None = None
    owners: tuple[str, ...] = OWNERS
    tags: Mapping[str, str] = field(default_factory=dict)
    pool: str = "gpu"
    location: str = LOCATION
    module: str = MODULE
    raw_assets: Mapping[str, dg.AssetKey] = field(default_factory=dict)

    @property
    def datasets_folder(self) -> Path:
        """The folder of the datasets."""
        return config_dir(self.folder)

    @cached_property
    def partitions(self) -> dg.StaticPartitionsDefinition:
        """One partition per dataset: every subfolder with a data.yaml, when the definitions were made."""
        return dg.StaticPartitionsDefinition(dataset_names(self.datasets_folder))

    @property
    def datasets(self) -> list[str]:
        """Names of the partitions."""
        return list(self.partitions.get_partition_keys())

    @property
    def dataset_folder(self) -> DatasetFolder:
        """The folder of the datasets, with all that is needed to read them."""
        return DatasetFolder(self.datasets_folder, self.override, tuple(self.raw_assets))

    def dataset(self, name: str) -> DatasetConfig:
        """Configuration of one dataset, read anew."""
        return self.dataset_folder.load(name)

    def shared_outputs(self) -> OutRoot:
        """Where outputs go that belong to no dataset."""
        return shared_out_root(self.datasets_folder, self.override)

    def key(self, name: str) -> dg.AssetKey:
        """Key of an asset, by its name; raw/gt is the raw file gt."""
        return dg.AssetKey([*self.key_prefix, *name.split("/")])

    def keys(self, names: Iterable[str]) -> list[dg.AssetKey]:
        """Keys of assets, by their names."""
        return [self.key(name) for name in names]

    def called(self, name: str) -> str:
        """Name of a job, schedule, sensor or resource in the code location."""
        return f"{self.namespace}_{name}" if self.namespace else name

    def group_of(self, stage: str) -> str:
        """Group of the assets of a stage."""
        return self.group or self.called(stage)


def as_name(*words: str) -> str:
    """The words as one name that Dagster allows."""
    return "_".join(NO_NAME.sub("_", word) for word in words)
