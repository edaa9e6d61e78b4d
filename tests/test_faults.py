"""Disks that are full, folders that cannot be written, files that are lost or damaged, two writers at once."""

import contextlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from personarank_dagster.defs.automation.runs import REPORT
from personarank_dagster.storage.versions import Version, VersionStore
from tests.killable import Ended, TinyWorkspace, content, edit

HISTORIES = ("run", "--select", "histories", "--force")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> TinyWorkspace:
    workspace = TinyWorkspace(tmp_path_factory.mktemp("faults"))
    assert workspace.call("run").code == 0
    return workspace


@contextmanager
def small_disk(workspace: TinyWorkspace, size: str, *options: str) -> Iterator[Path]:
    """A copy of the outputs of the dataset on a file system of its own."""
    folder = workspace.folder / "small"
    (folder / "amazon").mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder / "amazon")]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root can mount, and here not even root")
    try:
        shutil.copytree(workspace.folder / "outputs/amazon/versions", folder / "amazon/versions", symlinks=True)
        if options:
            subprocess.run(["mount", "-o", ",".join(["remount", *options]), str(folder / "amazon")], check=True)
        yield folder
    finally:
        subprocess.run(["umount", str(folder / "amazon")], check=True)
        shutil.rmtree(folder)


def fill(folder: Path) -> None:
    with contextlib.suppress(OSError), (folder / "filler").open("wb", buffering=0) as filler:
        while True:
            filler.write(bytes(4096))


def assert_one_error(ended: Ended, message: str) -> None:
    assert ended.code == 1, ended.output
    assert "Traceback" not in ended.output
    assert len(re.findall(message, ended.output)) == 1, ended.output


def histories(workspace: TinyWorkspace, out_root: str = "outputs") -> Version:
    return workspace.current(out_root)["histories"]


@pytest.mark.parametrize(
    ("asset", "folder"), [("histories", "versions"), ("trained_encoder", "staging"), ("interaction_cache", "vectors")]
)
def test_a_full_disk(workspace: TinyWorkspace, asset: str, folder: str) -> None:
    with small_disk(workspace, "3m") as out_root:
        if asset == "trained_encoder":
            shutil.copytree(workspace.folder / "outputs/amazon/vectors", out_root / "amazon/vectors")
        good = workspace.current("small")[asset]
        fill(out_root / "amazon")
        ended = workspace.call("run", "--select", asset, "--force", "--out-root", str(out_root))
        assert_one_error(ended, rf"{asset} failed: .*small/amazon/{folder}.*: cannot be written: No space left")
        assert (workspace.current("small")[asset], good.damage()) == (good, [])


def test_a_full_disk_below_the_database_of_dagster(workspace: TinyWorkspace) -> None:
    home = workspace.folder / ".dagster"
    good = workspace.current()
    with small_disk(workspace, "6m") as folder:
        shutil.copytree(home, folder / "amazon/.dagster")
        kept = home.rename(workspace.folder / "kept")
        home.symlink_to(folder / "amazon/.dagster")
        fill(folder / "amazon")
        ended = workspace.call(*HISTORIES)
        home.unlink()
        kept.rename(home)
    assert_one_error(
        ended, "Error: DAGSTER_HOME .*: Dagster cannot keep its runs: .*; published outputs are as they were"
    )
    assert {name: version.name for name, version in workspace.current().items()} == {
        name: version.name for name, version in good.items()
    }


def test_a_folder_that_cannot_be_written(workspace: TinyWorkspace) -> None:
    with small_disk(workspace, "3m", "ro") as out_root:
        good = histories(workspace, "small")
        ended = workspace.call(*HISTORIES, "--out-root", str(out_root))
        assert_one_error(ended, r"Error: .*small/amazon.*: cannot be written: Read-only file system")
        assert (histories(workspace, "small"), good.damage()) == (good, [])


def test_pictures_that_cannot_be_drawn_cost_a_warning_each(workspace: TinyWorkspace) -> None:
    good = {asset: version.manifest.data_version for asset, version in workspace.current().items()}
    ended = workspace.call("run", "--force", constants={"personarank_dagster.defs.platform.figures:DPI": 0})
    assert ended.code == 0, ended.output
    warned = re.findall(r"^(\w+) \(\w+\): the picture (\w+) could not be drawn", ended.output, re.MULTILINE)
    assert dict(warned) == {
        **dict.fromkeys(["personas", "histories", "selected_personas", "candidates"], "distributions"),
        **{"trained_encoder": "curves", "interaction_cache": "reuse", "persona_cache": "reuse"},
        **{"reranked_candidates": "movement", "rerank_metrics": "metrics"},
    }
    now = {asset: version.manifest.data_version for asset, version in workspace.current().items()}
    assert {name for name in good if now[name] != good[name]} <= {REPORT}


def test_a_lost_pointer_is_found_again(workspace: TinyWorkspace) -> None:
    good = histories(workspace)
    (good.directory.parent / "CURRENT").unlink()
    assert_one_error(workspace.call("run"), r"Error: .*CURRENT: is missing, .* `personarank doctor` points to")
    treated = workspace.call("doctor")
    assert (treated.code, f"pointed to {good.name}, the newest whole version" in treated.output) == (0, True)
    assert histories(workspace) == good
    assert "up to date" in workspace.call("run").output


def test_a_flipped_byte_in_a_vector_file(workspace: TinyWorkspace) -> None:
    good = workspace.current()["persona_cache"]
    assert workspace.call("run", "--select", "persona_cache", "--force").code == 0
    damaged = workspace.current()["persona_cache"]
    path = damaged.directory / "vectors.npy"
    path.write_bytes(flipped(path.read_bytes()))
    assert_one_error(workspace.call("verify"), r"persona_cache \(amazon\) .*vectors\.npy: sha256 must be")
    assert workspace.call("rollback", "persona_cache", "amazon").code == 0
    assert workspace.current()["persona_cache"] == good
    assert_one_error(workspace.call("rollback", "persona_cache", "amazon", damaged.name), "Error: .*cannot go back")


def test_a_manifest_of_a_newer_format(workspace: TinyWorkspace) -> None:
    good = histories(workspace)
    path = good.directory / "manifest.json"
    text = path.read_text()
    path.write_text(json.dumps(json.loads(text) | {"format_version": 3}))
    assert_one_error(workspace.call("run"), r"Error: .*manifest\.json: format_version must be at most 2, got 3")
    path.write_text(text)
    assert histories(workspace) == good


def test_of_two_writers_at_once_one_whole_version_is_current_and_both_are_readable(workspace: TinyWorkspace) -> None:
    assets = ["personas", "histories", "candidates", "ground_truth"]
    other = workspace.folder / "other_configs"
    shutil.copytree(workspace.folder / "configs", other)
    edit(other / "amazon/data.yaml", {"/data/1/": "/data/2/"})
    select = ["run", "--force", "--select", ",".join(assets), "--out-root", "both"]
    writers = [workspace.start(*select, "--config-dir", name) for name in ("configs", "other_configs")]
    assert [writer.wait(200) for writer in writers] == [0, 0]
    for asset in assets:
        store = VersionStore(workspace.folder / "both/amazon/versions", asset, "amazon")
        versions = [store.open(name) for name in store.names()]
        assert [version.damage() for version in versions] == [[], []]
        assert {content(version) for version in versions} > {content(workspace.current()[asset])}
        assert store.current() in versions


def flipped(data: bytes) -> bytes:
    """The same bytes, but for one bit in the middle."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
