"""Batches that were sent and not read yet, in the store of answers: a killed run finds them again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from personarank_dagster.preparation.client.kept_answers import KeptAnswers

SCHEMA = """
create table if not exists batches (name text primary key, stage text not null, id text);
create table if not exists batch_rows (name text not null, key text not null, call integer not null);
"""


@dataclass(frozen=True)
class OpenBatch:
    """A batch by our own name, which its server was told too; `id` is None where its reply was never read.

    `calls` are what was reserved for its rows, by the keys of their answers.
    """

    name: str
    id: str | None
    calls: Mapping[str, int]


class OpenBatches:
    """The batches of a stage."""

    def __init__(self, kept: KeptAnswers, stage: str) -> None:
        self._db, self.stage = kept.database, stage
        self._db.executescript(SCHEMA)

    def all(self) -> Sequence[OpenBatch]:
        """Those that are open."""
        found = self._db.execute("select name, id from batches where stage = ?", (self.stage,)).fetchall()
        return [OpenBatch(name, known, self._calls(name)) for name, known in found]

    def intend(self, name: str, calls: Mapping[str, int]) -> OpenBatch:
        """Remember a batch before it is sent."""
        self._db.execute("begin immediate")
        self._db.execute("insert into batches values (?, ?, null)", (name, self.stage))
        self._db.executemany("insert into batch_rows values (?, ?, ?)", [(name, *one) for one in calls.items()])
        self._db.execute("commit")
        return OpenBatch(name, None, calls)

    def sent(self, name: str, batch_id: str) -> None:
        """Remember what the server calls it."""
        self._db.execute("update batches set id = ? where name = ?", (batch_id, name))

    def forget(self, name: str) -> None:
        """Forget one that was read."""
        self._db.execute("begin immediate")
        self._db.execute("delete from batches where name = ?", (name,))
        self._db.execute("delete from batch_rows where name = ?", (name,))
        self._db.execute("commit")

    def _calls(self, name: str) -> dict[str, int]:
        return dict(self._db.execute("select key, call from batch_rows where name = ?", (name,)).fetchall())
