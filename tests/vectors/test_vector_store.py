import fcntl
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from personarank_dagster.core.encoders import EncodedTexts
from personarank_dagster.core.errors import ContractError, StorageError
from personarank_dagster.vectors import vector_store as module
from personarank_dagster.vectors.matrices import save_matrix
from personarank_dagster.vectors.text_keys import text_keys
from personarank_dagster.vectors.vector_store import VectorStore, prune_vectors


class CountingEncoder:
    """Encodes a text as its length and first letter, text by text, and remembers what it was asked for."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.texts: list[str] = []
        self.fail_at = fail_at

    def __call__(self, windows: Iterable[list[str]]) -> Iterator[EncodedTexts]:
        for window in windows:
            for text in window:
                if len(self.texts) == self.fail_at:
                    raise RuntimeError("the device is gone")
                vector = np.array([[len(text), ord(text[0])]], dtype=np.float32)
                yield EncodedTexts(np.array([len(self.texts)]), vector, np.array([len(text) > 3]))
                self.texts.append(text)


def add(store: VectorStore, texts: list[str], encoder: CountingEncoder | None = None) -> None:
    series = pl.Series(texts)
    store.add_texts(series, text_keys(series), encoder or CountingEncoder())


def lengths(store: VectorStore, texts: list[str]) -> list[float]:
    return store.vectors(store.places(text_keys(pl.Series(texts))))[:, 0].tolist()


def many_blocks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> VectorStore:
    """A store of eleven blocks, more than are left apart."""
    monkeypatch.setattr(module, "BLOCK_ROWS", 1)
    store = VectorStore(folder, "model")
    add(store, ["x" * count for count in range(1, 12)])
    return store


# What processes of their own know: `add` writes a block of so many vectors.
WRITER = """
import fcntl, os, resource, shutil, signal, sys
from pathlib import Path
import numpy as np
from personarank_dagster.vectors.vector_store import VectorStore

folder = Path(sys.argv[1]) / "model"

def add(count, vectors=lambda rows: np.ones((len(rows), 2), dtype=np.float16)):
    VectorStore(folder.parent, folder.name).write_block(np.arange(3 * count, dtype=np.uint64).reshape(3, -1), vectors)

def killed(rows):
    return os.kill(os.getpid(), signal.SIGKILL) if len(rows) else np.ones((0, 2))
"""


def process(folder: Path, code: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER + code, str(folder)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end_of(folder: Path, code: str) -> str:
    """The last line that a process of its own printed; empty if it printed none."""
    output, errors = process(folder, code).communicate()
    return "".join([output, errors]).strip().rpartition("\n")[2]


def test_vectors_are_found_again_by_text_in_any_order_and_process(tmp_path: Path) -> None:
    add(VectorStore(tmp_path, "model"), ["bb", "a"])
    add(VectorStore(tmp_path, "model"), ["ccc", "dddd"])
    again = VectorStore(tmp_path, "model")
    assert lengths(again, ["a", "dddd", "bb", "ccc", "a"]) == [1, 4, 2, 3, 1]
    places = again.places(text_keys(pl.Series(["dddd", "unknown", "a"])))
    assert places[1] == -1
    assert again.cut(places[[0, 2]]).tolist() == [True, False]


def test_the_longest_texts_are_encoded_first(tmp_path: Path) -> None:
    encoder = CountingEncoder()
    add(VectorStore(tmp_path, "model"), ["a", "ccc", "bb"], encoder)
    assert encoder.texts == ["ccc", "bb", "a"]


def test_another_model_shares_no_vectors(tmp_path: Path) -> None:
    add(VectorStore(tmp_path, "model"), ["a"])
    assert VectorStore(tmp_path, "other").places(text_keys(pl.Series(["a"]))).tolist() == [-1]


def test_a_block_without_its_keys_is_as_if_it_were_not_there(tmp_path: Path) -> None:
    add(VectorStore(tmp_path, "model"), ["a"])
    next((tmp_path / "model").glob("*.keys.npy")).unlink()
    assert len(VectorStore(tmp_path, "model")) == 0


def test_a_vector_that_is_not_finite_is_not_kept(tmp_path: Path) -> None:
    class BrokenEncoder(CountingEncoder):
        def __call__(self, windows: Iterable[list[str]]) -> Iterator[EncodedTexts]:
            for encoded in super().__call__(windows):
                yield replace(encoded, vectors=encoded.vectors * (np.nan if len(self.texts) == 2 else 1))

    with pytest.raises(
        ContractError, match="model: vectors must be finite, the encoder gave others for 1 texts of a batch of 1; "
    ):
        add(VectorStore(tmp_path, "model"), ["a", "ccc", "bb"], BrokenEncoder())
    assert lengths(VectorStore(tmp_path, "model"), ["ccc", "bb"]) == [3, 2]
    assert len(VectorStore(tmp_path, "model")) == 2


def test_what_was_encoded_before_an_error_is_kept(tmp_path: Path) -> None:
    store = VectorStore(tmp_path, "model")
    with pytest.raises(RuntimeError, match="the device is gone"):
        add(store, ["a", "ccc", "bb"], CountingEncoder(fail_at=2))
    assert lengths(VectorStore(tmp_path, "model"), ["ccc", "bb"]) == [3, 2]
    assert len(store) == 2


def test_many_blocks_become_one_with_the_same_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK_ROWS", 2)
    texts = ["x" * count for count in range(1, 25)]
    store = VectorStore(tmp_path, "model")
    add(store, texts)
    assert len(list(store.folder.glob("*.keys.npy"))) == 12
    store.join_blocks()
    assert len(list(store.folder.glob("*.npy"))) == 2
    assert lengths(store, texts) == lengths(VectorStore(tmp_path, "model"), texts) == list(range(1, 25))


def test_blocks_are_not_joined_while_another_has_the_store_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = many_blocks(tmp_path, monkeypatch)
    other = VectorStore(tmp_path, "model")
    store.join_blocks()
    assert len(list(store.folder.glob("*.keys.npy"))) == 11
    assert len(other) == 11


def test_nobody_opens_a_store_while_its_blocks_are_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = many_blocks(tmp_path, monkeypatch)
    opening = "fcntl.flock(os.open(folder / '.lock', os.O_RDWR), fcntl.LOCK_SH | fcntl.LOCK_NB); print('opened')"
    tried: list[str] = []

    def save(*arguments: Any) -> None:
        tried.append(end_of(tmp_path, opening))
        save_matrix(*arguments)

    monkeypatch.setattr(module, "save_matrix", save)
    store.join_blocks()
    assert ["BlockingIOError" in one for one in tried] == [True]
    assert end_of(tmp_path, opening) == "opened"


def test_joining_keeps_what_another_process_has_written_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = many_blocks(tmp_path, monkeypatch)
    assert end_of(tmp_path, "add(5)") == ""
    store.join_blocks()
    assert len(list(store.folder.glob("*.npy"))) == 2
    assert len(store) == len(VectorStore(tmp_path, "model")) == 11 + 5


def test_a_store_that_is_removed_while_it_is_opened_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(VectorStore(tmp_path, "model"), ["a"])
    alone = "lock = os.open(folder / '.lock', os.O_RDWR); fcntl.flock(lock, fcntl.LOCK_EX); print(flush=True)"
    with process(tmp_path, f"{alone}; sys.stdin.read(); shutil.rmtree(folder)") as remover:
        assert remover.stdin
        assert remover.stdout
        remover.stdout.readline()
        flock, go_on = fcntl.flock, remover.stdin.close
        monkeypatch.setattr(module.fcntl, "flock", lambda *arguments: (go_on(), flock(*arguments)))
        store = VectorStore(tmp_path, "model")
    add(store, ["bb"])
    assert lengths(VectorStore(tmp_path, "model"), ["bb"]) == [2]


def test_a_full_disk_leaves_no_part_of_a_block(tmp_path: Path) -> None:
    full = "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)); add(9)"
    assert end_of(tmp_path, full).endswith("model: cannot be written: File too large")
    assert [path.name for path in (tmp_path / "model").iterdir()] == [".lock"]


def test_what_a_killed_writer_left_is_swept_when_nobody_has_the_store_open(tmp_path: Path) -> None:
    store = VectorStore(tmp_path, "model")
    add(store, ["a"])
    assert end_of(tmp_path, "add(9, killed)") == ""
    (left,) = (tmp_path / "model").glob("*.tmp")
    assert list(prune_vectors(tmp_path, keep=["model"])) == []
    del store
    assert [name for name, *_ in prune_vectors(tmp_path, keep=["model"], dry_run=True)] == [f"model/{left.name}"]
    assert [name for name, *_ in prune_vectors(tmp_path, keep=["model"])] == [f"model/{left.name}"]
    assert lengths(VectorStore(tmp_path, "model"), ["a"]) == [1]
    assert not left.exists()


def test_keys_that_share_their_first_half_are_told_apart(tmp_path: Path) -> None:
    store = VectorStore(tmp_path, "model")
    keys = np.array([[7, 7, 7, 9], [1, 2, 3, 1], [0, 0, 0, 0]], dtype=np.uint64)
    vectors = np.arange(8, dtype=np.float16).reshape(4, 2)
    store.write_block(keys, vectors.__getitem__)
    store.reload()
    wanted = np.array([[7, 3], [9, 1], [7, 4], [10, 1], [7, 1]], dtype=np.uint64)
    places = store.places(wanted)
    assert (places < 0).tolist() == [False, False, True, True, False]
    assert store.vectors(places[[0, 1, 4]])[:, 0].tolist() == [4, 6, 0]


def test_a_damaged_block_is_named_with_the_remedy(tmp_path: Path) -> None:
    add(VectorStore(tmp_path, "model"), ["a"])
    next((tmp_path / "model").glob("*.vectors.npy")).write_bytes(b"not numpy")
    with pytest.raises(StorageError, match=r"keys.npy: cannot be read: .*; remove .*model to encode anew"):
        VectorStore(tmp_path, "model")


def test_stores_of_other_encoders_are_pruned_unless_in_use(tmp_path: Path) -> None:
    for name in ("kept-fp32", "old-fp32", "used-fp32"):
        add(VectorStore(tmp_path, name), ["a"])
    used = VectorStore(tmp_path, "used-fp32")
    listed = list(prune_vectors(tmp_path, keep=["kept"], dry_run=True))
    assert [(name, in_use) for name, _, in_use in listed] == [("old-fp32", False), ("used-fp32", False)]
    pruned = list(prune_vectors(tmp_path, keep=["kept"]))
    assert [(name, in_use) for name, _, in_use in pruned] == [("old-fp32", False), ("used-fp32", True)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept-fp32", "used-fp32"]
    assert len(used) == 1


def test_a_block_that_is_written_again_takes_its_own_place(tmp_path: Path) -> None:
    texts = pl.Series(["a", "bbbb"])
    names = [
        VectorStore(tmp_path, "model", only_written=True).write_texts(texts, text_keys(texts), CountingEncoder())
        for _ in range(2)
    ]
    assert names[0] == names[1]
    assert len(list((tmp_path / "model").glob("*.npy"))) == 2
    assert lengths(VectorStore(tmp_path, "model"), ["a", "bbbb"]) == [1, 4]


def test_a_store_that_is_only_written_to_reads_no_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(VectorStore(tmp_path, "model"), ["a"])
    monkeypatch.setattr(module, "_open_block", None)
    texts = pl.Series(["bb"])
    VectorStore(tmp_path, "model", only_written=True).write_texts(texts, text_keys(texts), CountingEncoder())
    monkeypatch.undo()
    assert lengths(VectorStore(tmp_path, "model"), ["a", "bb"]) == [1, 2]
