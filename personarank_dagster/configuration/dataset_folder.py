"""A folder of datasets, and all that is needed to read one of them."""

from dataclasses import dataclass
from pathlib import Path

from personarank_dagster.configuration.dataset import DatasetConfig, dataset_names, load_dataset
from personarank_dagster.configuration.out_roots import Override


@dataclass(frozen=True)
class DatasetFolder:
    """Datasets, where their outputs go, and the raw files of all of them that are copies of assets of others.

    Without an `override` the environment counts, else each data.yaml.
    """

    folder: Path
    override: Override | None = None
    given: tuple[str, ...] = ()

    def names(self) -> list[str]:
        """Names of the datasets, sorted. Raises ConfigError if there are none."""
        return dataset_names(self.folder)

    def load(self, name: str) -> DatasetConfig:
        """Configuration of one dataset, read anew. Raises ConfigError with one line per problem."""
        return load_dataset(self.folder, name, self.override, given=self.given)
