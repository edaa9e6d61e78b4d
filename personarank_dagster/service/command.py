"""Which datasets `personarank serve` serves."""

from collections.abc import Sequence

from personarank_dagster.configuration.dataset_folder import DatasetFolder
from personarank_dagster.core.errors import ConfigError
from personarank_dagster.service.datasets import Place


def places(datasets: DatasetFolder, names: Sequence[str]) -> list[Place]:
    """The datasets with these names, or all that have outputs. Raises ConfigError if there are none."""
    if names:
        return [Place.of(datasets.load(name)) for name in dict.fromkeys(names)]
    configured = [Place.of(datasets.load(name)) for name in datasets.names()]
    if found := [place for place in configured if place.bucket or (place.folder / "versions").is_dir()]:
        return found
    raise ConfigError(
        f"{datasets.folder}: no dataset has outputs yet; `personarank run` makes them, or name one by --dataset"
    )
