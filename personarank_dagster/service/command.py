"""Which datasets `personarank serve` serves."""

from collections.abc import Sequence

from personarank_dagster.configuration.dataset import config_dir, dataset_names, load_dataset
from personarank_dagster.core.errors import ConfigError
from personarank_dagster.service.datasets import Place


def places(names: Sequence[str]) -> list[Place]:
    """The datasets with these names, or all that have outputs. Raises ConfigError if there are none."""
    folder = config_dir()
    if names:
        return [Place.of(load_dataset(folder, name)) for name in dict.fromkeys(names)]
    configured = [Place.of(load_dataset(folder, name)) for name in dataset_names(folder)]
    if found := [place for place in configured if place.bucket or (place.folder / "versions").is_dir()]:
        return found
    raise ConfigError(f"{folder}: no dataset has outputs yet; `personarank run` makes them, or name one by --dataset")
