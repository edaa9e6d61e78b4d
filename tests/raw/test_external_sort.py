import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from personarank_dagster.raw import external_sort, ingestion
from personarank_dagster.raw.external_sort import ExternalSort
from personarank_dagster.storage.scratch import ScratchFolder
from personarank_dagster.storage.tables import table_version, write_table


def rows(count: int, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    users = [f"ü{number}" for number in rng.integers(0, 50, count)]
    return pl.DataFrame({"user_id": users, "timestamp": rng.integers(0, 9, count), "text": np.arange(count)})


@pytest.mark.parametrize("run_bytes", [1, 2_000, 20_000])
def test_rows_sorted_on_disk_are_those_sorted_in_memory(
    tmp_path: Path, run_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(external_sort, "SAMPLE_EVERY", 7)
    table = rows(3_000)
    on_disk = ExternalSort("user_id", "timestamp", tmp_path, run_bytes)
    for part in table.iter_slices(170):
        on_disk.add(part)
    assert on_disk.scratch is not None
    parts = list(on_disk.parts())
    users = [set(part["user_id"]) for part in parts]
    assert len(parts) > 2
    assert sum(map(len, users)) == len(set().union(*users))
    # Rows that are equal in both keys stay in the order they came.
    assert pl.concat(parts).equals(table.sort("user_id", "timestamp", maintain_order=True))


def test_rows_stay_in_memory_while_they_fit_or_where_no_folder_is_given(tmp_path: Path) -> None:
    for scratch, run_bytes in ((tmp_path, 10**9), (None, 1)):
        in_memory = ExternalSort("user_id", "timestamp", scratch, run_bytes)
        in_memory.add(rows(100))
        in_memory.add(rows(100, seed=1))
        (part,) = in_memory.parts()
        assert part.height == 200
    assert list(tmp_path.iterdir()) == []


def test_histories_beyond_the_memory_are_the_same_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "h.jsonl"
    review = '{"item_id": "i%d", "rating": 4, "timestamp": %d}'
    with path.open("w") as file:
        for user in np.random.default_rng(0).permutation(300):
            reviews = ", ".join(review % (n, 10**12 + (n * 7) % 5) for n in range(6))
            file.write(f'{{"user_id": "u{user}", "reviews": [{reviews}]}}\n')
    truth = pl.DataFrame({"user_id": ["u7", "u8"], "item_id": ["i1", "i2"]})
    in_memory = ingestion.read_histories(path, "amazon", ground_truth=truth)

    monkeypatch.setattr(ingestion, "ExternalSort", lambda *args: ExternalSort(*args, run_bytes=10_000))
    monkeypatch.setattr("personarank_dagster.raw.readers.TABLE_BYTES", 5_000)
    monkeypatch.setattr("personarank_dagster.raw.blocks.BLOCK_BYTES", 1_000)
    monkeypatch.setattr(external_sort, "SAMPLE_EVERY", 7)
    scratch = tmp_path / "scratch"
    on_disk = ingestion.read_histories(path, "amazon", ground_truth=truth, scratch=scratch)
    assert isinstance(on_disk.table, pl.LazyFrame)
    assert on_disk.frame.equals(in_memory.frame)
    assert (on_disk.read, on_disk.left_out) == (1_800, {"the user's ground truth": 2})
    assert table_version(on_disk.table) == table_version(in_memory.table)
    write_table(on_disk.table, tmp_path / "table.parquet")
    assert pl.read_parquet(tmp_path / "table.parquet").equals(in_memory.frame)
    del on_disk
    assert [path.name for path in scratch.iterdir()] == [".lock"]


def test_scratch_of_a_killed_process_is_swept_and_that_of_a_living_one_is_not(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from personarank_dagster.storage.scratch import ScratchFolder; "
        "folder = ScratchFolder(Path(sys.argv[1])); print(folder.path, flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    other = Path(process.stdout.readline().strip())
    mine = ScratchFolder(tmp_path)
    assert other.is_dir()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert other.is_dir()
    ScratchFolder(tmp_path).close()
    assert not other.exists()
    assert mine.path.is_dir()
    mine.close()
    assert not mine.path.exists()
