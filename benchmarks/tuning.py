"""What `tune: full` and `lora` give on amazon beside a head, three seeds each: ten minutes of a GPU.

Each is a run of the whole graph by the command that users type. Settings were chosen on held-out users, if at all.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import yaml

from benchmarks.inputs import CONFIGS, KIND
from personarank_dagster.configuration.settings import RAW_FILE_KEYS

DATASET, SEEDS, METRIC = "amazon", (13, 14, 15), "NDCG@10"
ENCODED = {"batch_size": 128, "user_batches": True, "negative_pool": 512, "epochs": 10, "max_steps": 0}
TUNES: dict[str, dict[str, Any]] = {
    "head": {"tune": "head"},
    "full": {"tune": "full", "lr": 5.0e-5} | ENCODED,
    "lora": {"tune": "lora", "lr": 5.0e-4} | ENCODED,
}
COMMAND = (sys.executable, "-c", "from personarank_dagster.command_line.cli import main; main()", "run")
HEAD = "| tune | seed | reranked | shuffled | untrained | held-out users | the whole graph |\n" + "|---" * 7 + "|"
ROW = "| {tune} | {seed} | {reranked:.4f} | {shuffled:.4f} | {untrained:.4f} | {held_out} | {seconds:.0f} s |"


def main() -> None:
    """Print a row for each run, as it ends."""
    if not torch.cuda.is_available():
        print("there is no GPU here: nothing was measured")
        return
    print(f"{DATASET} ({KIND}), {METRIC}; of held-out users after each epoch, the first before all training")
    print(HEAD)
    for tune, settings in TUNES.items():
        for seed in SEEDS:
            print(ROW.format(tune=tune, seed=seed, **run(settings | {"seed": seed})), flush=True)


def run(settings: dict[str, Any]) -> dict[str, Any]:
    """What a run with these settings of `train.yaml` gives."""
    with tempfile.TemporaryDirectory() as folder:
        _write_configs(Path(folder, DATASET), settings)
        started = time.monotonic()
        subprocess.run(
            [*COMMAND, "--partition", DATASET, "--config-dir", folder, "--out-root", f"{folder}/outputs"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        seconds = time.monotonic() - started
        outputs = Path(folder, "outputs", DATASET)
        metrics = json.loads((outputs / "rerank" / "metrics.json").read_bytes())
        training = json.loads((outputs / "train" / "training.json").read_bytes())
    held_out = ", ".join(f"{entry['best_by']:.3f}" for entry in training["evaluations"])
    lists = {name: metrics[name][METRIC] for name in ("reranked", "shuffled", "untrained")}
    return lists | {"held_out": held_out, "seconds": seconds}


def _write_configs(folder: Path, settings: dict[str, Any]) -> None:
    """The files of the dataset, its raw files where they are."""
    folder.mkdir()
    source = (CONFIGS / DATASET).resolve()
    for path in source.glob("*.yaml"):
        content = yaml.safe_load(path.read_text())
        if path.name == "data.yaml":
            content |= {key: str(source / content[key]) for key in RAW_FILE_KEYS if key in content}
        if path.name == "train.yaml":
            content |= settings
        (folder / path.name).write_text(yaml.safe_dump(content))
