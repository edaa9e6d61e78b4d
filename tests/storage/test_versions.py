import json
import os
import resource
from collections.abc import Callable
from datetime import datetime, tzinfo
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from personarank_dagster.core.errors import ContractError, StorageError
from personarank_dagster.storage.disk import content_hash, link
from personarank_dagster.storage.manifests import Provenance, Verdict
from personarank_dagster.storage.versions import Staged, Version, VersionStore
from tests.storage.killed_calls import ends_before

MADE_FROM = Provenance(code_version="1", inputs={"raw/gt": "r"})


def publish(store: VersionStore, text: str) -> Version:
    def write(directory: Path) -> dict[str, int]:
        (directory / "data.txt").write_text(text)
        return {"rows": len(text)}

    return store.publish(write, run_id="run", data_version=content_hash(text), provenance=MADE_FROM)


@pytest.fixture
def store(tmp_path: Path) -> VersionStore:
    return VersionStore(tmp_path, "personas", "amazon")


def test_the_last_published_version_is_current(store: VersionStore) -> None:
    publish(store, "one")
    second = publish(store, "two")
    assert store.current() == second
    assert (second.directory / "data.txt").read_text() == "two"


def test_the_previous_version_is_the_one_before_the_current(store: VersionStore) -> None:
    assert store.previous() is None
    first = publish(store, "one")
    assert store.previous() is None
    second = publish(store, "two")
    assert store.previous() == first
    (second.directory / "data.txt").unlink()
    publish(store, "three")
    assert store.previous() == first


def test_the_manifest_says_what_the_version_is(store: VersionStore) -> None:
    manifest = publish(store, "one").manifest
    assert (manifest.asset, manifest.partition, manifest.run_id) == ("personas", "amazon", "run")
    assert (manifest.provenance, manifest.details) == (MADE_FROM, {"rows": 3})
    assert [(entry.path, entry.bytes, len(entry.sha256)) for entry in manifest.files] == [("data.txt", 3, 64)]


@pytest.mark.parametrize("step", range(30))
def test_a_kill_at_any_step_of_the_first_publishing_is_no_lost_pointer(store: VersionStore, step: int) -> None:
    killed = ends_before(step, lambda: publish(store, "one"))
    version = store.find_current()
    assert killed if version is None else version.damage() == []
    assert publish(store, "two") == store.current()


def test_nothing_published_is_none_or_an_error_with_the_remedy(store: VersionStore) -> None:
    assert store.find_current() is None
    with pytest.raises(StorageError, match=r"personas \(amazon\): nothing published .* materialise it first"):
        store.current()


@pytest.mark.parametrize("failure", [ContractError("broken"), KeyboardInterrupt()])
def test_a_failing_write_leaves_the_last_good_version_and_no_trace(
    store: VersionStore, failure: BaseException
) -> None:
    good = publish(store, "good")

    def write(directory: Path) -> dict[str, int]:
        (directory / "data.txt").write_text("half")
        raise failure

    with pytest.raises(type(failure)):
        store.publish(write, run_id="run", data_version="x" * 8, provenance=MADE_FROM)
    assert store.current() == good
    assert not list(store.root.glob(".staging*"))


def write_lines(directory: Path) -> dict[str, int]:
    (directory / "data.txt").write_bytes(bytes(9000))
    return {}


def write_table(directory: Path) -> dict[str, int]:
    pl.DataFrame({"x": np.random.default_rng(0).normal(size=9000)}).write_parquet(directory / "table.parquet")
    return {}


def write_vectors(directory: Path) -> dict[str, int]:
    np.save(directory / "vectors.npy", np.zeros(9000))
    return {}


@pytest.mark.parametrize("write", [write_lines, write_table, write_vectors])
def test_a_disk_quota_leaves_the_last_good_version(
    store: VersionStore, write: Callable[[Path], dict[str, int]]
) -> None:
    good = publish(store, "good")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, before[1]))
    try:
        with pytest.raises(StorageError, match=r"personas/amazon.*: cannot be written: (File too large|No space)"):
            store.publish(write, run_id="run", data_version="x" * 8, provenance=MADE_FROM)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert store.current() == good
    assert not list(store.root.glob(".staging*"))


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"file.*: cannot be written: Not a directory"):
        publish(VersionStore(tmp_path / "file", "personas", "amazon"), "one")


def test_a_file_of_another_size_is_not_trusted(store: VersionStore) -> None:
    version = publish(store, "one")
    (version.directory / "data.txt").write_text("longer")
    with pytest.raises(StorageError, match=r"data\.txt: expected 3 bytes, got 6"):
        store.current()


def test_a_newer_format_is_refused(store: VersionStore) -> None:
    path = publish(store, "one").directory / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 3}))
    with pytest.raises(StorageError, match="format_version must be at most 2, got 3"):
        store.current()


def test_a_link_follows_the_newest_target_and_never_replaces_a_real_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
        link(tmp_path / name, tmp_path / "out" / "current")
        assert (tmp_path / "out" / "current").read_text() == name
    assert os.readlink(tmp_path / "out" / "current") == "../b"
    with pytest.raises(StorageError, match="expected a link that this program made"):
        link(tmp_path / "a", tmp_path / "b")


REFUSED = Verdict("ids_are_non_empty", False, {"bad": 1, "share": 1 / 4718})


def refuse(store: VersionStore, text: str) -> Version:
    def write(directory: Path) -> dict[str, int]:
        (directory / "data.txt").write_text(text)
        return {}

    return store.publish(
        write, run_id="run", data_version=content_hash(text), provenance=MADE_FROM, judge=lambda staged: [REFUSED]
    )


def test_a_refused_version_stays_for_inspection_and_the_accepted_one_current(store: VersionStore) -> None:
    good, bad = publish(store, "good"), refuse(store, "bad")
    assert store.current() == good
    assert (store.newest(), store.names()) == (bad, [good.name, bad.name])
    assert store.open(bad.name).manifest.refusal == "ids_are_non_empty, bad 1, share 0.021 %"
    assert store.refused() == [bad.name]
    assert store.made_by("run") == good


def test_where_every_version_was_refused_nothing_is_current_and_no_pointer_lost(store: VersionStore) -> None:
    refuse(store, "bad")
    assert store.current_name() is None
    assert store.find_current() is None


def test_what_is_judged_is_what_was_written(store: VersionStore) -> None:
    seen: list[str] = []

    def judge(staged: Staged) -> list[Verdict]:
        seen.append((staged.directory / "data.txt").read_text())
        assert store.names() == []
        return []

    def write(directory: Path) -> dict[str, int]:
        (directory / "data.txt").write_text("written")
        return {}

    store.publish(write, run_id="run", data_version="d" * 8, provenance=MADE_FROM, judge=judge)
    assert seen == ["written"]


def test_only_with_force_one_goes_back_to_what_was_refused(store: VersionStore) -> None:
    first, bad, last = publish(store, "first"), refuse(store, "bad"), publish(store, "last")
    with pytest.raises(
        StorageError, match=r"was not accepted: ids_are_non_empty, bad 1, share 0.021 %; --force goes back to it"
    ):
        store.rollback(bad.name)
    assert store.current() == last
    assert store.rollback() == first
    assert store.rollback(bad.name, force=True) == bad
    assert store.current() == bad


def test_refused_versions_count_for_nothing_that_is_kept(store: VersionStore) -> None:
    names = [publish(store, "1"), refuse(store, "2"), publish(store, "3"), publish(store, "4"), refuse(store, "5")]
    first, refused, *_ = (version.name for version in names)
    assert store.removable(2) == [first, refused]


def test_of_versions_that_are_refused_again_and_again_the_last_one_is_kept(store: VersionStore) -> None:
    _, second, _ = refuse(store, "1"), publish(store, "2"), refuse(store, "3")
    again = [refuse(store, text).name for text in "456"]
    assert {*store.names()} - {*store.removable(1)} == {second.name, again[-1]}


def test_a_clock_that_goes_back_does_not_change_which_version_is_the_newest(
    store: VersionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Earlier(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime(2001, 1, 1, tzinfo=tz)

    first = publish(store, "first")
    monkeypatch.setattr("personarank_dagster.storage.versions.datetime", Earlier)
    second, third = publish(store, "second"), publish(store, "third")
    assert store.names() == [first.name, second.name, third.name]
    assert store.previous() == second


def test_nothing_is_pointed_to_that_is_not_there(store: VersionStore) -> None:
    good, old = publish(store, "good"), publish(store, "old")
    store.rollback(good.name)
    assert store.remove(old.name)
    with pytest.raises(StorageError, match="is not there any more"):
        store.place.point_to(old.name)
    assert store.current() == good


def test_a_rollback_keeps_its_target_from_being_removed_while_it_hashes(
    store: VersionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, last = publish(store, "target"), publish(store, "last")
    removed: list[bool] = []
    monkeypatch.setattr(Version, "damage", lambda version: removed.append(store.remove(version.name)) or [])
    assert store.rollback(target.name) == target
    assert removed == [False]
    assert store.current().directory.exists()
    assert store.remove(last.name)
