"""Two runs of one dataset at once, by other settings and raw files, and killed at random moments.

`make torture` tries fifty times; the test suite three.
"""

import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from personarank_dagster.defs.automation.runs import REPORT
from personarank_dagster.storage.versions import Version, VersionStore
from tests.killable import NO_PICTURES, Ended, TinyWorkspace, after, content, edit

TIMES = int(os.environ.get("PERSONARANK_TWO_RUNS", "3"))
CONFIGS = ("configs", "others")
# Whoever waits for what a killed run held finds that out within a second.
CONSTANTS = NO_PICTURES | {"personarank_dagster.defs.automation.runs:RIVAL_SECONDS": 1}


class Rivals:
    """Two folders of configurations that have one folder of outputs, and what each gives undisturbed."""

    def __init__(self, workspace: TinyWorkspace) -> None:
        self.workspace = workspace
        others = workspace.folder / "others"
        shutil.copytree(workspace.folder / "configs", others)
        edit(others / "amazon/data.yaml", {"/data/1/": "/data/2/"})
        edit(others / "amazon/train.yaml", {"seed: 13": "seed: 14"})
        self.dice = random.Random(0)
        begun = time.monotonic()
        assert [self.run(name, "--out-root", f"alone-{name}").code for name in CONFIGS] == [0, 0]
        self.seconds = (time.monotonic() - begun) / 2
        self.alone = {name: self.contents(f"alone-{name}") for name in CONFIGS}

    def contents(self, out_root: str) -> dict[str, tuple[str, ...]]:
        current = self.workspace.current(out_root)
        return {asset: content(version) for asset, version in current.items() if asset != REPORT}

    def run(self, name: str, *arguments: str, moment: Callable[[], bool] | None = None) -> Ended:
        command = ("run", "--partition", "amazon", "--config-dir", name, *arguments)
        return self.workspace.call(*command, moment=moment, constants=CONSTANTS)

    def run_both(self) -> list[Ended]:
        """Both at once; one of them is killed at some moment, or both are, or none."""
        killed = self.dice.choice([(), CONFIGS, *((name,) for name in CONFIGS)])
        moments = {name: after(self.dice.uniform(0, 2 * self.seconds)) for name in killed}
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(lambda name: self.run(name, moment=moments.get(name)), CONFIGS))

    def versions(self) -> Iterator[Version]:
        for path in sorted((self.workspace.folder / "outputs/amazon/versions").iterdir()):
            store = VersionStore(path.parent, path.name, "amazon")
            yield from map(store.open, store.names())


@pytest.fixture(scope="module")
def rivals(tmp_path_factory: pytest.TempPathFactory) -> Rivals:
    return Rivals(TinyWorkspace(tmp_path_factory.mktemp("rivals")))


@pytest.mark.parametrize("time", range(TIMES))
def test_two_runs_at_once_mix_nothing_and_the_next_one_gives_what_it_would_have(rivals: Rivals, time: int) -> None:
    for ended in rivals.run_both():
        assert ended.code in (0, -signal.SIGKILL), ended.output
    for version in rivals.versions():
        made_by = [name for name in CONFIGS if content(version) == rivals.alone[name][version.manifest.asset]]
        assert made_by, f"{version.address} is not what one of them would have made alone"
        behind = {asset: one[0] for asset, one in rivals.alone[made_by[0]].items()}
        assert version.manifest.provenance.lineage.items() <= behind.items()
    name = CONFIGS[time % 2]
    assert rivals.run(name).code == 0
    assert rivals.contents("outputs") == rivals.alone[name]
