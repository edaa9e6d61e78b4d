"""Random sequences of what happens to a store: published, refused, rolled back, removed, swept, killed, and read.

Whatever came before, the current version is an accepted and whole one, and manifests say what was read. The test
suite tries a few sequences; `make torture` many.
"""

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from personarank_dagster.core.errors import StorageError
from personarank_dagster.defs.platform.lineage.provenance import lineage
from personarank_dagster.storage.bucket import bucket_path
from personarank_dagster.storage.disk import file_sha256
from personarank_dagster.storage.manifests import Provenance, Verdict
from personarank_dagster.storage.versions import Staged, Version, VersionStore
from tests.object_store import object_store
from tests.storage.killed_calls import ends_before, fork

SEQUENCES = int(os.environ.get("PERSONARANK_SEQUENCES", "2"))
UPSTREAM = {"a": (), "b": ("a",), "c": ("a", "b")}

assets = st.sampled_from(sorted(UPSTREAM))
# A step of a call before which its process is killed; calls have up to about thirty.
kills = st.none() | st.none() | st.integers(0, 30)


@dataclass(frozen=True)
class Made:
    """What a test published: its content, whether it is accepted, and what it was made from."""

    text: str
    accepted: bool
    read: Mapping[str, "Made"] = field(default_factory=dict)

    def behind(self) -> set[tuple[str, str]]:
        return {(name, one.text) for name, one in self.read.items()}.union(
            *(one.behind() for one in self.read.values())
        )

    def lineage(self) -> dict[str, str]:
        behind = sorted(self.behind())
        return {name: " and ".join(text for other, text in behind if other == name) for name, _ in behind}


class Sequence(RuleBasedStateMachine):
    """What a test did to the three assets of a store, beside what the store says."""

    address: str | None = None

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.made: dict[str, dict[str, Made]] = {asset: {} for asset in UPSTREAM}
        self.current: dict[str, str | None] = dict.fromkeys(UPSTREAM)
        self.unfinished: set[str] = set()
        self.reader = fork(lambda: read_forever([self.store(asset, "elsewhere") for asset in UPSTREAM]))

    def store(self, asset: str, copies: str = "here") -> VersionStore:
        if self.address is None:
            return VersionStore(self.folder, asset, "p")
        return VersionStore(
            bucket_path(f"{self.address}/{self.folder.name}"), asset, "p", copies=self.folder / copies
        )

    @rule(text=st.sampled_from("xyz"))
    def publish_all(self, text: str) -> None:
        for asset in UPSTREAM:
            self.publish(asset, text, True, None)

    @rule(asset=assets, text=st.sampled_from("xyz"), accepted=st.booleans(), kill=kills)
    def publish_one(self, asset: str, text: str, accepted: bool, kill: int | None) -> None:
        self.publish(asset, text, accepted, kill)

    def publish(self, asset: str, text: str, accepted: bool, kill: int | None) -> None:
        read = {name: self.store(name).find_current() for name in UPSTREAM[asset]}
        if None in read.values():
            return
        inputs = {name: self.made[name][self.current[name] or ""] for name in read}
        made, known, before = Made(text, accepted, inputs), set(self.made[asset]), self.current[asset]
        killed = ends_before(kill, lambda: publish(self.store(asset), made, read))
        (*_, new), now = (None, *sorted(set(self.store(asset).names()) - known)), self.store(asset).current_name()
        if new:
            self.made[asset][new] = made
        assert killed or (new and now == (new if accepted else before))
        assert now in ((before, new) if accepted else (before,))
        self.unfinished |= {new} - {now, None} if killed else set()
        self.current[asset] = now
        self.check(asset)

    @rule(asset=assets, kill=kills, choice=st.none() | st.integers(0, 5))
    def rollback(self, asset: str, kill: int | None, choice: int | None) -> None:
        names = sorted(self.made[asset])
        target = names[choice % len(names)] if names and choice is not None else self.previous(asset)
        if target is None or not self.made[asset][target].accepted:
            with pytest.raises(StorageError, match=r"has no version|was not accepted"):
                self.store(asset).rollback(target)
            return
        killed = ends_before(kill, lambda: self.store(asset).rollback(target if choice is not None else None))
        now = self.store(asset).current_name()
        assert now == target or (killed and now == self.current[asset])
        self.unfinished.discard(now or "")
        self.current[asset] = now
        self.check(asset)

    def previous(self, asset: str) -> str | None:
        before = [name for name in self.made[asset] if name < (self.current[asset] or "")]
        return max((name for name in before if self.made[asset][name].accepted), default=None)

    @rule(asset=assets, keep=st.integers(1, 3), kill=kills)
    def collect(self, asset: str, keep: int, kill: int | None) -> None:
        accepted = sorted(name for name, made in self.made[asset].items() if made.accepted)
        removable = self.store(asset).removable(keep)
        assert not {*removable} & {*accepted[-keep:], self.current[asset]}
        ends_before(kill, lambda: [self.store(asset).remove(name) for name in removable])
        self.forget(asset, set(removable))

    @rule(asset=assets, kill=kills)
    def sweep(self, asset: str, kill: int | None) -> None:
        if not ends_before(kill, lambda: self.store(asset).sweep()):
            assert self.store(asset).leftovers() == []
        self.forget(asset, self.unfinished if self.address else set())

    def forget(self, asset: str, names: set[str]) -> None:
        """Names that may be gone now; of no other the store may know nothing."""
        gone = set(self.made[asset]) - set(self.store(asset).names())
        assert gone <= names
        for name in gone:
            del self.made[asset][name]
        self.check(asset)

    def check(self, asset: str) -> None:
        """The current version is an accepted, whole one; every manifest says what the test did."""
        store = self.store(asset)
        assert store.names() == sorted(self.made[asset])
        for name, made in self.made[asset].items():
            manifest = store.open(name).manifest
            assert (manifest.data_version, manifest.accepted) == (made.text, made.accepted)
            assert manifest.provenance.lineage == made.lineage()
        current = store.find_current()
        assert (current and current.name) == self.current[asset]
        assert current is None or (current.damage(), current.manifest.accepted) == ([], True)

    def teardown(self) -> None:
        alive = os.waitpid(self.reader, os.WNOHANG) == (0, 0)
        if alive:
            os.kill(self.reader, signal.SIGKILL)
            os.waitpid(self.reader, 0)
        try:
            assert alive, "the reader failed"
            for asset in UPSTREAM:
                self.check(asset)
        finally:
            shutil.rmtree(self.folder)


def publish(store: VersionStore, made: Made, read: Mapping[str, Version | None]) -> None:
    def write(directory: Path) -> dict[str, int]:
        (directory / "folder").mkdir()
        (directory / "folder" / "data.txt").write_text(made.text * 1000)
        return {}

    def judge(staged: Staged) -> list[Verdict]:
        return [Verdict("good", made.accepted)]

    found = {name: version for name, version in read.items() if version}
    inputs = {name: version.manifest.data_version for name, version in found.items()}
    made_from = Provenance(code_version="1", inputs=inputs, lineage=lineage(found))
    store.publish(write, run_id="run", data_version=made.text, provenance=made_from, judge=judge)


def read_forever(stores: list[VersionStore]) -> None:
    """Read every current version again and again; fails if one is not what its manifest says."""
    while True:
        for store in stores:
            if store.current_name() is None:
                continue
            in_use = store.use()
            for entry in in_use.version.manifest.files:
                assert file_sha256(in_use.version.directory / entry.path) == entry.sha256
            in_use.close()
        time.sleep(0.05)


def sequences(number: int, steps: int, address: str | None = None) -> None:
    machine = type("Sequence", (Sequence,), {"address": address})
    rules = settings(
        max_examples=number, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(machine, settings=rules)


def test_in_a_folder_the_current_version_is_always_an_accepted_and_whole_one() -> None:
    sequences(5 * SEQUENCES, 30)


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with object_store() as address:
        yield address


def test_in_a_bucket_the_current_version_is_always_an_accepted_and_whole_one(bucket: str) -> None:
    sequences(SEQUENCES, 8, bucket)
