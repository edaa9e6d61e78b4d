"""Keys of the public scripts (legenduck/PERSONA4REC) that mean nothing here, and what stands for them now."""

from collections.abc import Mapping
from pathlib import Path

from personarank_dagster.configuration.strict_yaml import read_mapping

# Each is passed over; the scripts themselves read num_workers and freeze_logit_scale_steps alone.
PASSED_OVER: Mapping[str, Mapping[str, str]] = {
    "data.yaml": {"data_root": "relative paths start at this file"},
    "train.yaml": {
        "num_workers": "texts are read by the process that trains",
        "nproc": "num_gpus is the number of processes",
        "freeze_logit_scale_steps": "temperature is fixed",
        "qlora": "tune: lora trains adapters, unquantised",
        "adam8bit": "the optimiser's states are fp32",
    },
}
# What the scripts do without a key for it.
OTHERWISE = {"train.yaml": "all weights are trained, as there, with tune: full alone"}


def passed_over(folder: Path) -> list[str]:
    """A line for each file of a dataset that has keys which mean nothing here. Raises ConfigError."""
    return [line for file in PASSED_OVER if (line := _line(folder / file))]


def _line(path: Path) -> str:
    meanings = PASSED_OVER[path.name]
    found = [f"{key} ({meanings[key]})" for key in read_mapping(path) if key in meanings]
    rest = f"; {OTHERWISE[path.name]}" if path.name in OTHERWISE else ""
    return f"{path}: passed over, keys of the public scripts: {', '.join(found)}{rest}" if found else ""
