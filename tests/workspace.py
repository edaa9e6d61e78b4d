"""A project folder of its own, for tests that type commands."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.forked import ROOT, environment, personarank


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

    def call(self, *arguments: str, moment: Callable[[], bool] | None = None) -> subprocess.CompletedProcess[str]:
        """Run `personarank`; with a moment, kill it as soon as that is true."""
        return personarank(arguments, folder=self.folder, moment=moment)

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        command = [Path(sys.executable).parent / "personarank", *arguments]
        return subprocess.Popen(command, cwd=self.folder, env=environment(), stdout=subprocess.DEVNULL)

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
