"""Read histories of many files on a cluster: each file becomes sorted runs, then each range of users is sorted.

It is the external sort of one machine, with its runs in a folder that all nodes share, as the raw files are; so its
table is the same, and so are errors, since a file that breaks a rule is read again here.
"""

import uuid
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from personarank_dagster.core.aspects import SchemaName
from personarank_dagster.core.errors import InputError
from personarank_dagster.distributed.cluster import Cluster
from personarank_dagster.distributed.pool import Pool
from personarank_dagster.raw.bad_lines import Account, ReadRules
from personarank_dagster.raw.columns import histories
from personarank_dagster.raw.external_sort import ExternalSort, KeyRange, Runs, rows_within
from personarank_dagster.raw.ingestion import FAIL, Completion, Ingested, histories_of
from personarank_dagster.raw.readers import present_parts, read_part
from personarank_dagster.storage.scratch import ScratchFolder
from personarank_dagster.storage.tables import write_table

KEY, THEN = "user_id", "timestamp"
# What the tasks find in the folder: the list of all runs, and the tables that histories are completed from.
RUNS = "runs.json"
GIVEN = ("ground_truth", "item_summaries", "aspects")

# Each task is called in an actor.
Task = Callable[[], Any]


@dataclass(frozen=True)
class ReadFile:
    """What a task has read of a file: its runs, rows and account; or why it could not."""

    number: int
    runs: Runs
    num_rows: int
    account: Account
    problem: str = ""


@dataclass(frozen=True)
class FileToRead:
    """Put the interactions of a file into sorted runs in a folder."""

    number: int
    path: Path
    schema: SchemaName
    rules: ReadRules
    folder: Path

    def __call__(self) -> ReadFile:
        """Read it to the end, or to the first line that no rules allow."""
        account = Account(self.path, self.rules)
        # A base of its own: no node may take the scratch of another for one that nobody uses.
        interactions = ExternalSort(KEY, THEN, self.folder / uuid.uuid4().hex)
        try:
            for table in read_part(self.path, histories(self.schema), account):
                interactions.add(table)
        except InputError as error:
            return ReadFile(self.number, Runs(), 0, account, str(error))
        runs = interactions.moved_runs(self.folder, f"file-{self.number:06}")
        return ReadFile(self.number, runs, interactions.num_rows, account)


@dataclass(frozen=True)
class UsersToSort:
    """Sort the interactions of a range of users, and complete them from the tables that are given."""

    users: KeyRange
    schema: SchemaName
    given: tuple[str, ...]
    folder: Path
    out: Path

    def __call__(self) -> Completion:
        """Write their histories; returns the counts."""
        runs = [Path(run) for run in msgspec.json.decode((self.folder / RUNS).read_bytes())]
        truth, summaries, aspects = (self._given(name) for name in GIVEN)
        complete = Completion(self.schema, truth, summaries, aspects)
        unfinished = self.out.with_name(f".{uuid.uuid4().hex[:8]}-{self.out.name}")
        write_table(complete(rows_within(runs, self.users, KEY, THEN)), unfinished)
        unfinished.replace(self.out)
        return Completion(self.schema, None, None, None, complete.left_out, complete.filled)

    def _given(self, name: str) -> pl.DataFrame | None:
        """A table, of these users where it is by user."""
        if name not in self.given:
            return None
        table = pl.scan_parquet(self.folder / f"{name}.parquet")
        return (table.filter(self.users.holds(KEY)) if KEY in table.collect_schema() else table).collect()


def called() -> Callable[[Task, bool], Any]:
    """The work of an actor. A task that is repeated writes the same files again."""
    return lambda task, again: task()


def read_histories_on_ray(
    cluster: Cluster,
    path: Path,
    schema: SchemaName,
    rules: ReadRules = FAIL,
    *,
    scratch: Path,
    **given: pl.DataFrame | None,
) -> Ingested:
    """As `raw.ingestion.read_histories`, of many files; `scratch` is in a folder that all nodes share."""
    with Pool[Task, Any](cluster, called) as pool:
        return read_by(pool, path, schema, rules, ScratchFolder(scratch), given)


def read_by(
    pool: Pool[Task, Any],
    path: Path,
    schema: SchemaName,
    rules: ReadRules,
    scratch: ScratchFolder,
    given: dict[str, pl.DataFrame | None],
) -> Ingested:
    """The histories, which lie in a scratch folder that goes when the table does."""
    account, num_rows, runs = Account(path, rules), 0, Runs()
    with present_parts(path) as parts:
        files = [FileToRead(number, part, schema, rules, scratch.path) for number, part in enumerate(parts)]
        for read in _in_order(pool.results(files)):
            _take(account, read, files[read.number])
            runs.add(read.runs)
            num_rows += read.num_rows
    account.close()
    names = _write_given(scratch.path, runs, given)
    outs = [(users, scratch.path / f"part-{number:06}.parquet") for number, users in enumerate(runs.ranges())]
    completed = Completion(schema, None, None, None)
    for counts in pool.results([UsersToSort(users, schema, names, scratch.path, out) for users, out in outs]):
        completed.left_out.update(counts.left_out)
        completed.filled.update(counts.filled)
    table = pl.scan_parquet([out for _, out in outs])
    weakref.finalize(table, scratch.close)
    return histories_of(table, completed, num_rows, account)


def _in_order(found: Iterator[ReadFile]) -> Iterator[ReadFile]:
    """What was read of the files, in the order of these."""
    waiting: dict[int, ReadFile] = {}
    expected = 0
    for read in found:
        waiting[read.number] = read
        while expected in waiting:
            yield waiting.pop(expected)
            expected += 1


def _take(account: Account, read: ReadFile, file: FileToRead) -> None:
    """Take the lines of a file into the account. Raises InputError as one machine does, after the lines before."""
    if not read.problem and account.take(read.account):
        return
    for _ in read_part(file.path, histories(file.schema), account):
        pass
    raise InputError(
        f"engine ray: raw files must be in a folder that all nodes share: this one reads {file.path}, another says: "
        f"{read.problem}"
    )


def _write_given(folder: Path, runs: Runs, given: dict[str, pl.DataFrame | None]) -> tuple[str, ...]:
    """Write what the tasks need; the names of the tables that are there."""
    (folder / RUNS).write_bytes(msgspec.json.encode([str(run) for run in runs.paths]))
    tables = {name: table for name, table in given.items() if table is not None}
    for name, table in tables.items():
        table.write_parquet(folder / f"{name}.parquet")
    return tuple(tables)
