"""A project folder of its own, for tests that type commands."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]


def copy_sample(folder: Path) -> None:
    """The configured datasets and their raw files, to be changed by a test."""
    shutil.copytree(ROOT / "configs", folder / "configs")
    shutil.copytree(ROOT / "data", folder / "data")


class Workspace:
    """A folder with a Dagster instance, sample data and two datasets: `amazon` and a third one, `films`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copy(ROOT / "dagster.yaml", folder)
        assert self.call("sample-data", "--out", "data", "--users", "30", "--seed", "1").returncode == 0
        for name, schema in (("amazon", "amazon"), ("films", "yelp")):
            shutil.copytree(ROOT / "configs" / schema, folder / "configs" / name)
            self.edit(f"{name}/data.yaml", "../../data/sample/", "../../data/")
            self.edit(f"{name}/data.yaml", f"outputs/{schema}", f"outputs/{name}")
            self.edit(f"{name}/train.yaml", "batch_size: 128", "batch_size: 8")
            self.edit(f"{name}/train.yaml", "max_steps: 400", "max_steps: 30")

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        unwanted = {"DAGSTER_HOME", "PERSONARANK_CONFIG_DIR", "PERSONARANK_OUT_ROOT"}
        environment = {key: value for key, value in os.environ.items() if key not in unwanted}
        return subprocess.run(
            [Path(sys.executable).parent / "personarank", *arguments],
            cwd=self.folder,
            env={**environment, "COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=300,
        )

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        command = [Path(sys.executable).parent / "personarank", *arguments]
        environment = {key: value for key, value in os.environ.items() if key != "DAGSTER_HOME"}
        return subprocess.Popen(command, cwd=self.folder, env=environment, stdout=subprocess.DEVNULL)

    def edit(self, file: str, old: str, new: str) -> None:
        path = self.folder / "configs" / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    @contextmanager
    def edited(self, file: str, old: str, new: str) -> Iterator[None]:
        self.edit(file, old, new)
        yield
        self.edit(file, new, old)

    def metrics(self, name: str) -> dict:
        return json.loads((self.folder / "outputs" / name / "rerank" / "metrics.json").read_text())
