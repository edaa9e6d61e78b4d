"""A tiny dataset with a tiny encoder, whose runs are real processes that take seconds."""

import atexit
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from personarank_dagster.defs.automation.runs import REPORT
from personarank_dagster.defs.graph import all_assets  # noqa: F401 - declares the assets
from personarank_dagster.defs.platform.declarations import asset_names
from personarank_dagster.sample.files import write_sample_files
from personarank_dagster.sample.generator import SampleDataset
from personarank_dagster.storage.versions import Version, VersionStore
from tests.forked import ROOT, environment, personarank
from tests.tiny_models import write_tiny_model

# Settings that make a training of many short steps, with a checkpoint after each.
TRAINING = {"batch_size: 128": "batch_size: 4", "max_len: 256": "max_len: 32", "max_steps: 400": "max_steps: 12"}
CHECKPOINTS = {"checkpoint_seconds: 60": "checkpoint_seconds: 0"}
# For commands of which nobody looks at the pictures: drawing is a third of what a tiny run computes.
NO_PICTURES = {"personarank_dagster.defs.platform.figures:COLUMN": -1}


@dataclass(frozen=True)
class Ended:
    """A process that is gone: its exit code, negative for a signal, and what it printed."""

    code: int
    output: str


class TinyWorkspace:
    """A folder with a Dagster instance and one dataset, `amazon`, with raw files of seed 1 and of seed 2."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        made, model = _raw_files_and_model()
        shutil.copy(ROOT / "dagster.yaml", folder)
        shutil.copytree(made / "data", folder / "data")
        shutil.copytree(ROOT / "configs" / "amazon", folder / "configs" / "amazon")
        edit(folder / "configs/amazon/data.yaml", {"../../data/sample/": "../../data/1/"})
        edit(folder / "configs/amazon/train.yaml", {"bundled:all-MiniLM-L6-v2": model} | TRAINING | CHECKPOINTS)

    def call(
        self,
        *arguments: str,
        moment: Callable[[], bool] | None = None,
        constants: Mapping[str, float] | None = None,
    ) -> Ended:
        """Run `personarank`, with other constants in its modules; with a moment, kill it as soon as that is true."""
        ended = personarank(arguments, folder=self.folder, moment=moment, constants=constants)
        return Ended(ended.returncode, ended.stdout + ended.stderr)

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start `personarank` as a user does."""
        command = [Path(sys.executable).parent / "personarank", *arguments]
        return subprocess.Popen(command, cwd=self.folder, env=environment(), stdout=subprocess.DEVNULL)

    def use(self, *, data_seed: int, train_seed: int) -> None:
        """Take other raw files, another seed of the training."""
        for name, old, new in (
            ("data", r"/data/\d+/", f"/data/{data_seed}/"),
            ("train", r"seed: \d+", f"seed: {train_seed}"),
        ):
            path = self.folder / "configs" / "amazon" / f"{name}.yaml"
            path.write_text(re.sub(old, new, path.read_text()))

    def current(self, out_root: str = "outputs") -> dict[str, Version]:
        """The current version of each asset that has one."""
        folder = self.folder / out_root
        stores = [
            VersionStore(folder / "versions", asset, "_all")
            if asset == REPORT
            else VersionStore(folder / "amazon" / "versions", asset, "amazon")
            for asset in asset_names()
        ]
        return {store.asset: version for store in stores if (version := store.find_current())}


def content(version: Version) -> tuple[str, ...]:
    """Data version, and path and sha256 of every file: all that does not say when and by which run."""
    files = version.manifest.files
    return (version.manifest.data_version, *(f"{entry.path} {entry.sha256}" for entry in files))


def edit(path: Path, replacements: dict[str, str]) -> None:
    text = path.read_text()
    for old, new in replacements.items():
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)


def after(seconds: float) -> Callable[[], bool]:
    """The moment so many seconds from now."""
    begun = time.monotonic()
    return lambda: time.monotonic() > begun + seconds


def sight(folder: Path, pattern: str, times: int = 1) -> Callable[[], bool]:
    """The moment when so many new paths that match the pattern have been seen."""
    old = set(folder.glob(pattern))
    new: set[Path] = set()

    def seen() -> bool:
        new.update(folder.glob(pattern))
        return len(new - old) >= times

    return seen


def tiny_model() -> str:
    """An encoder that knows the words of such a dataset."""
    return _raw_files_and_model()[1]


@cache
def _raw_files_and_model() -> tuple[Path, str]:
    """What all such folders begin with, made once: raw files of both seeds, and an encoder that knows their words."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    for seed in (1, 2):
        write_sample_files(folder / "data" / str(seed), num_users=8, seed=seed)
    return folder, write_tiny_model(folder / "tiny", _words(SampleDataset("amazon", 8, 1)))


def _words(data: SampleDataset) -> list[str]:
    return sorted({word for row in _rows(data) for word in re.findall(r"\w+|[^\w\s]", json.dumps(row).lower())})


def _rows(data: SampleDataset) -> Iterable[object]:
    return [*data.personas(), *data.histories()]
