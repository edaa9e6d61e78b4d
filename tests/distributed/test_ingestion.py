"""Histories of many files that tasks read and sort: the table, the counts and the errors of one process."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from personarank_dagster.core.errors import InputError
from personarank_dagster.distributed import ingestion as module
from personarank_dagster.distributed.cluster import Cluster
from personarank_dagster.distributed.ingestion import Task, read_by, read_histories_on_ray
from personarank_dagster.raw import bad_lines, external_sort
from personarank_dagster.raw.bad_lines import ReadRules
from personarank_dagster.raw.ingestion import Ingested, read_histories
from personarank_dagster.storage.scratch import ScratchFolder
from personarank_dagster.storage.tables import table_version

QUARANTINE = ReadRules(on_bad_row="quarantine", max_bad_share=0.9)
GIVEN = {
    "ground_truth": pl.DataFrame({"user_id": ["u7", "u8"], "item_id": ["i1", "i2"]}),
    "item_summaries": pl.DataFrame({"item_id": ["i1", "i3"], "item_summary": ["one", "three"]}),
    "aspects": None,
}
BROKEN = [
    '{"user_id": 3, "reviews": []}',
    '{"user_id": "u", "reviews": [{"item_id": "i", "rating": "x", "timestamp": 1}]}',
    "null",
    '{"user_id": "u", "user_id": "v", "reviews": []}',
]


class PoolHere:
    """Tasks in this process, the last one first, and each twice, as after a loss."""

    def results(self, tasks: Sequence[Task]) -> Iterator[Any]:
        for task in reversed(tasks):
            task()
            yield task()


def write_parts(folder: Path, broken: dict[int, list[str]]) -> Path:
    """Five files whose users are in several of them; before each file's own lines those that are broken."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for part in range(5):
        lines = list(broken.get(part, []))
        for user in rng.integers(0, 40, 60):
            reviews = [{"item_id": f"i{n}", "rating": 4, "timestamp": 10**12 + (n * 7) % 5} for n in range(6)]
            lines.append(json.dumps({"user_id": f"u{user}", "reviews": reviews}))
        (folder / f"part-{part}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def here(path: Path, rules: ReadRules) -> Ingested:
    return read_histories(path, "amazon", rules, **GIVEN)


def in_tasks(path: Path, rules: ReadRules) -> Ingested:
    scratch = ScratchFolder(path.parent / "scratch")
    return read_by(PoolHere(), path, "amazon", rules, scratch, GIVEN)  # type: ignore[arg-type]


def message(read: Callable[[Path, ReadRules], Ingested], path: Path, rules: ReadRules) -> str:
    with pytest.raises(InputError) as raised:
        read(path, rules)
    return str(raised.value)


def same(found: Ingested, expected: Ingested) -> bool:
    accounts = [(one.read, one.left_out, one.filled, one.bad_lines) for one in (found, expected)]
    return accounts[0] == accounts[1] and table_version(found.table) == table_version(expected.table)


@pytest.fixture
def small_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external_sort, "SAMPLE_EVERY", 7)
    monkeypatch.setattr(external_sort.Runs.ranges, "__defaults__", (10_000,))
    monkeypatch.setattr(external_sort.ExternalSort.__init__, "__defaults__", (10_000,))


@pytest.mark.usefixtures("small_runs")
@pytest.mark.parametrize("broken", [{}, {1: BROKEN, 3: BROKEN[2:]}])
def test_tasks_read_the_table_and_the_account_of_one_process(tmp_path: Path, broken: dict[int, list[str]]) -> None:
    path = write_parts(tmp_path / "parts", broken)
    found, expected = in_tasks(path, QUARANTINE), here(path, QUARANTINE)
    assert len(list((tmp_path / "scratch").glob("*/part-*.parquet"))) > 2
    assert found.left_out["the user's ground truth"] > 0
    assert found.filled["item_summary"] > 0
    assert same(found, expected)
    del found
    assert [path.name for path in (tmp_path / "scratch").iterdir()] == [".lock"]


@pytest.mark.parametrize(
    "broken",
    [
        {3: ["null"]},
        {1: ["null"] * 12, 2: BROKEN * 4},
        {0: ["null"], 4: ["[" * 2_000]},
        {2: ["user_id,reviews"] * 200},
    ],
)
def test_tasks_fail_with_the_message_of_one_process(tmp_path: Path, broken: dict[int, list[str]]) -> None:
    path = write_parts(tmp_path / "parts", broken)
    assert message(in_tasks, path, ReadRules()) == message(here, path, ReadRules())
    few = ReadRules(on_bad_row="quarantine", max_bad_share=0.001)
    assert message(in_tasks, path, few) == message(here, path, few)


def test_a_quarantine_that_is_too_big_is_the_error_of_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bad_lines, "MAX_QUARANTINE_BYTES", 100)
    path = write_parts(tmp_path / "parts", {1: ["null"] * 20, 3: ["null"] * 20})
    assert message(in_tasks, path, QUARANTINE) == message(here, path, QUARANTINE)


def test_a_file_that_a_node_cannot_read_is_an_error_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_parts(tmp_path / "parts", {})
    monkeypatch.setattr(module.FileToRead, "__call__", lambda file: unreadable(file))
    found = message(in_tasks, path, ReadRules())
    assert found.startswith("engine ray: raw files must be in a folder that all nodes share: this one reads ")
    assert found.endswith("another says: no such file")


def unreadable(file: Any) -> module.ReadFile:
    account = bad_lines.Account(file.path, file.rules)
    return module.ReadFile(file.number, external_sort.Runs(), 0, account, "no such file")


def test_two_nodes_read_what_one_process_reads(tmp_path: Path, address: str) -> None:
    path = write_parts(tmp_path / "parts", {2: BROKEN})
    found = read_histories_on_ray(Cluster(address), path, "amazon", QUARANTINE, scratch=tmp_path / "scratch", **GIVEN)
    assert same(found, here(path, QUARANTINE))
