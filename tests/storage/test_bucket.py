"""Versions in an object store, against a real S3 API."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock
from uuid import uuid4

import pytest
from upath import UPath

from personarank_dagster.core.errors import StorageError
from personarank_dagster.storage.bucket import BucketPlace, bucket_path
from personarank_dagster.storage.manifests import Provenance, Verdict
from personarank_dagster.storage.process_identity import this_process
from personarank_dagster.storage.versions import Version, VersionStore, check_writable
from tests.object_store import object_store

MADE_FROM = Provenance(code_version="1", inputs={})
# Publishes a version, and waits for its end at the given step of the place.
KILLED = """
import sys, time
from pathlib import Path
from personarank_dagster.storage.bucket import BucketPlace
from tests.storage.test_bucket import publish, store_at

def wait(*_):
    print("here", flush=True)
    time.sleep(60)

setattr(BucketPlace if sys.argv[1] == "point_to" else BucketPlace.read.__globals__["FolderPlace"], sys.argv[1], wait)
publish(store_at(sys.argv[2], Path(sys.argv[3])), "killed")
"""


def store_at(address: str, copies: Path) -> VersionStore:
    return VersionStore(bucket_path(address), "personas", "amazon", copies=copies)


def publish(store: VersionStore, text: str) -> Version:
    def write(directory: Path) -> dict[str, int]:
        (directory / "folder").mkdir()
        (directory / "folder" / "data.txt").write_text(text)
        return {"rows": len(text)}

    return store.publish(write, run_id="run", data_version=f"{text:_<8}", provenance=MADE_FROM)


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with object_store() as address:
        yield address


@pytest.fixture
def store(bucket: str, tmp_path: Path) -> VersionStore:
    return store_at(f"{bucket}/{uuid4().hex}", tmp_path / "here")


@pytest.fixture
def elsewhere(store: VersionStore, tmp_path: Path) -> VersionStore:
    """The same versions, seen from another machine."""
    return VersionStore(store.base, store.asset, store.partition, copies=tmp_path / "elsewhere")


def text_of(version: Version) -> str:
    return (version.directory / "folder" / "data.txt").read_text()


def test_what_one_machine_publishes_another_reads(store: VersionStore, elsewhere: VersionStore) -> None:
    assert elsewhere.find_current() is None
    first, second = publish(store, "one"), publish(store, "two")
    assert elsewhere.names() == [first.name, second.name]
    assert (text_of(elsewhere.current()), elsewhere.current().manifest) == ("two", second.manifest)
    assert elsewhere.rollback().name == first.name
    assert (store.current().name, text_of(store.current())) == (first.name, "one")


def test_a_removed_version_goes_with_its_copy_but_not_while_it_is_open(store: VersionStore) -> None:
    first = publish(store, "one")
    copy, in_use = first.directory, store.use()
    publish(store, "two")
    assert (store.removable(1), store.remove(first.name), copy.exists()) == ([first.name], False, True)
    in_use.close()
    assert (store.remove(first.name), copy.exists()) == (True, False)
    assert store.names() == [store.current().name]


def test_a_damaged_object_is_found_and_never_read(store: VersionStore, elsewhere: VersionStore) -> None:
    version = publish(store, "one")
    (store.root / version.name / "folder/data.txt").write_bytes(b"0ne")
    assert ["sha256 must be" in problem for problem in store.current().damage()] == [True]
    with pytest.raises(StorageError, match=r"s3://.*data\.txt: sha256 must be"):
        elsewhere.use()
    (store.root / version.name / "folder/data.txt").write_bytes(b"longer")
    with pytest.raises(StorageError, match=r"s3://.*data\.txt: expected 3 bytes, got 6"):
        elsewhere.current()


def test_a_lost_pointer_is_named(store: VersionStore) -> None:
    publish(store, "one")
    (store.root / "CURRENT").unlink()
    with pytest.raises(StorageError, match=r"s3://.*CURRENT: is missing, though there are versions"):
        store.current()


@pytest.mark.parametrize("step", ["take_over", "point_to"])
def test_a_kill_between_upload_and_pointer_leaves_the_old_version_and_is_swept(
    store: VersionStore, elsewhere: VersionStore, tmp_path: Path, step: str
) -> None:
    good = publish(store, "good")
    command = [sys.executable, "-c", KILLED, step, str(store.base), str(tmp_path / "here")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "here\n"
        assert store.leftovers() == []  # its process is alive
        process.send_signal(signal.SIGKILL)
    assert (elsewhere.current(), text_of(elsewhere.current())) == (elsewhere.open(good.name), "good")
    (orphan,) = [path for path in store.leftovers() if path.startswith("s3://")]
    assert orphan in store.sweep()
    assert (store.leftovers(), store.names()) == ([], [good.name])
    assert store.current() == good


def test_a_first_version_that_never_became_current_is_no_lost_pointer(
    store: VersionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BucketPlace, "point_to", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        publish(store, "one")
    monkeypatch.undo()
    assert (len(store.names()), store.find_current()) == (1, None)
    assert publish(store, "two") == store.current()


def test_a_version_that_was_current_is_never_swept(store: VersionStore) -> None:
    first, second = publish(store, "one"), publish(store, "two")
    for version in (first, second):  # as if both had been killed before they could take their name away
        (store.root / version.name / ".owner").write_text(f"{os.uname().nodename}:{2**22 + 1}:0")
    store.rollback(first.name)
    assert (store.sweep(), store.names()) == ([], [first.name, second.name])


def test_a_bucket_that_is_not_there_is_one_clear_error(bucket: str) -> None:
    with pytest.raises(StorageError, match=r"s3://nowhere.*: cannot be written: .*bucket does not exist"):
        check_writable(UPath("s3://nowhere/x"))


def test_a_store_that_does_not_answer_is_one_clear_error() -> None:
    store = UPath("s3://bucket/x", endpoint_url="http://127.0.0.1:9", config_kwargs={"retries": {"max_attempts": 0}})
    with pytest.raises(StorageError, match=r"s3://bucket/x: the object store answered: Could not connect"):
        check_writable(store)


def test_a_refused_version_is_no_leftover_when_its_maker_is_gone(store: VersionStore) -> None:
    good = publish(store, "good")
    bad = store.publish(
        lambda directory: {},
        run_id="run",
        data_version="b" * 8,
        provenance=MADE_FROM,
        judge=lambda staged: [Verdict("check", False)],
    )
    assert (store.current(), store.leftovers()) == (good, [])
    assert store.open(bad.name).manifest.refusal == "check"


def test_a_version_that_is_leased_is_not_removed_and_one_being_removed_is_not_leased(
    store: VersionStore, elsewhere: VersionStore
) -> None:
    first, _ = publish(store, "one"), publish(store, "two")
    with elsewhere.place.lease(first.name):
        assert not store.remove(first.name)
    (store.root / first.name / ".removing").write_bytes(this_process().encode())
    with pytest.raises(StorageError, match="is not there any more"):
        elsewhere.rollback(first.name)
    assert text_of(elsewhere.current()) == "two"


def test_a_removal_that_was_killed_before_it_removed_keeps_nobody_from_a_version(store: VersionStore) -> None:
    first, _ = publish(store, "one"), publish(store, "two")
    host = this_process().partition(":")[0]
    (store.root / first.name / ".removing").write_bytes(f"{host}:{2**22 + 1}:0".encode())
    assert store.rollback(first.name) == first
