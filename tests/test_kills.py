"""Runs that are killed at random moments: nothing good is lost, and the next run gives what it would have given.

`make torture` kills 200; the test suite 10.
"""

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from personarank_dagster.defs.automation.runs import REPORT
from personarank_dagster.defs.graph import output_format
from tests.killable import NO_PICTURES, TinyWorkspace, after, content, sight

KILLS = int(os.environ.get("PERSONARANK_KILLS", "10"))
INPUTS = ["personas", "histories", "selected_personas", "candidates", "ground_truth"]
SELECTIONS = {"ingestion": ",".join(INPUTS), "anywhere": None}
TRAINED = "trained_encoder+"
PHASES = ["ingestion", "training", "caches", "publishing", "anywhere"]


class KilledProject:
    """A project that is killed again and again, each time on the way from one state of its data to the other."""

    def __init__(self, folder: Path) -> None:
        self.workspace = TinyWorkspace(folder)
        self.seeds = {"data_seed": 1, "train_seed": 1}
        self.codes: list[int] = []
        self.random = random.Random(0)
        self._undisturbed: dict[tuple[int, ...], dict[str, tuple[str, ...]]] = {}
        self.workspace.use(**self.seeds)
        assert self.call("run") == 0
        # Kills at any moment come within what a run takes, however fast the machine is; the first one compiles.
        begun = time.monotonic()
        assert self.call("run", "--force") == 0
        self.seconds = time.monotonic() - begun
        self._undisturbed[1, 1] = self.content()

    @property
    def outputs(self) -> Path:
        return self.workspace.folder / "outputs" / "amazon"

    def change(self, phase: str) -> None:
        """Make stale what is to be killed; vectors are encoded anew."""
        seed = "data_seed" if phase in ("ingestion", "anywhere") else "train_seed"
        self.seeds[seed] = 3 - self.seeds[seed]
        self.workspace.use(**self.seeds)
        shutil.rmtree(self.outputs / "vectors", ignore_errors=True)

    def call(self, *arguments: str, moment: Callable[[], bool] | None = None) -> int:
        return self.workspace.call(*arguments, moment=moment, constants=NO_PICTURES).code

    def run(self, phase: str, moment: Callable[[], bool] | None = None) -> int:
        select = SELECTIONS.get(phase, TRAINED)
        return self.call("run", *(["--select", select] if select else []), moment=moment)

    def kill(self, phase: str) -> None:
        self.codes.append(self.run(phase, self.moment(phase)))

    def moment(self, phase: str) -> Callable[[], bool]:
        dice = self.random
        moments: dict[str, Callable[[], Callable[[], bool]]] = {
            "ingestion": lambda: after(dice.uniform(0, self.seconds / 4)),
            "training": lambda: sight(self.outputs, "staging/*/checkpoint-*", dice.randint(1, 12)),
            "caches": lambda: sight(self.outputs, "vectors/**/*", dice.randint(1, 5)),
            "publishing": lambda: sight(self.outputs, "versions/*/amazon/.staging-*", dice.randint(1, 5)),
            "anywhere": lambda: after(dice.uniform(0, self.seconds / 2)),
        }
        return moments[phase]()

    def content(self) -> dict[str, tuple[str, ...]]:
        return {asset: content(version) for asset, version in self.workspace.current().items()}

    def undisturbed(self) -> dict[str, tuple[str, ...]]:
        """What a run that nobody disturbs makes of the present data and settings, into an empty folder."""
        state = tuple(self.seeds.values())
        if state not in self._undisturbed:
            name = "undisturbed" + "".join(map(str, state))
            assert self.call("run", "--out-root", str(self.workspace.folder / name)) == 0
            self._undisturbed[state] = {key: content(one) for key, one in self.workspace.current(name).items()}
        return self._undisturbed[state]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> KilledProject:
    return KilledProject(tmp_path_factory.mktemp("killed"))


@pytest.mark.parametrize("phase", [PHASES[i * len(PHASES) // KILLS] for i in range(KILLS)])
def test_after_a_kill_the_good_versions_stay_and_the_next_run_gives_what_it_would_have(
    project: KilledProject, phase: str
) -> None:
    before, (*_, expected) = project.content(), [project.change(phase), project.undisturbed()]
    project.kill(phase)
    for asset, version in project.workspace.current().items():
        assert version.damage() == []
        assert asset == REPORT or content(version) in (before[asset], expected[asset])
        output_format(asset, "amazon").read(version.directory)
    assert project.workspace.call("doctor").code == 0
    assert list(project.workspace.folder.glob("outputs/**/.staging-*")) == []
    assert project.run(phase) == 0
    # The report also shows the versions before, which are others after a kill.
    made = INPUTS if phase == "ingestion" else expected.keys() - {REPORT}
    assert {asset: project.content()[asset] for asset in made} == {asset: expected[asset] for asset in made}


def test_most_of_the_kills_came_before_the_run_was_done(project: KilledProject) -> None:
    assert set(project.codes) <= {0, -signal.SIGKILL}
    assert project.codes.count(-signal.SIGKILL) > 0.8 * KILLS


# Batches of a few texts, each kept at once: a build of many blocks, as on large data.
SMALL_BLOCKS = NO_PICTURES | {
    "personarank_dagster.vectors.vector_store:BLOCK_SECONDS": 0,
    "personarank_dagster.encoding.engine:CPU_TOKENS": 32,
}


def test_a_killed_cache_build_encodes_only_what_it_had_not_encoded(project: KilledProject) -> None:
    def build(moment: Callable[[], bool] | None = None) -> int:
        select = ["--select", "interaction_cache", "--force"]
        return project.workspace.call("run", *select, moment=moment, constants=SMALL_BLOCKS).code

    def encoded() -> int:
        return int(project.workspace.current()["interaction_cache"].manifest.details["encoded"])

    vectors = project.outputs / "vectors"
    shutil.rmtree(vectors)
    assert build() == 0
    undisturbed, total = project.content()["interaction_cache"], encoded()
    shutil.rmtree(vectors)
    assert build(sight(project.outputs, "vectors/*/*.keys.npy", max(1, total // 16))) == -signal.SIGKILL
    assert build() == 0
    assert 0 < encoded() < total
    assert project.content()["interaction_cache"] == undisturbed
