"""Answers that were paid for, and the account of what was spent: one SQLite file for each dataset.

SQLite commits each answer and each reservation before the next step, so a killed run loses only what was in flight;
what was reserved then counts as spent, since the server may have charged it.
"""

import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from personarank_dagster.core.errors import StorageError, reason_of

SCHEMA = """
create table if not exists answers (key text primary key, content text not null, stage text not null);
create table if not exists ladders (server text primary key, rung text not null);
create table if not exists calls (
    id integer primary key, stage text not null, outcome text not null, tokens_in integer not null,
    tokens_out integer not null, usd real not null
);
create table if not exists totals (id integer primary key check (id = 1), tokens integer not null, usd real not null);
insert or ignore into totals values (1, 0, 0.0);
"""

IN_FLIGHT = "in flight"


@dataclass(frozen=True)
class Tariff:
    """Dollars for a million tokens, and the most that may be spent of either; None: no limit."""

    price_in: float = 0.0
    price_out: float = 0.0
    budget_tokens: int | None = None
    budget_usd: float | None = None

    def usd(self, tokens_in: int, tokens_out: int) -> float:
        """Price of so many tokens."""
        return (tokens_in * self.price_in + tokens_out * self.price_out) / 1e6


class KeptAnswers:
    """The store: answers by key, the way of asking that a server understands, and every call."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.database = self._db = sqlite3.connect(path, timeout=60, isolation_level=None)
            self._db.execute("pragma journal_mode = wal")
            self._db.execute("pragma synchronous = normal")
            self._db.executescript(SCHEMA)
        except sqlite3.Error as error:
            raise StorageError(
                f"{path}: cannot be used: {reason_of(error)}; remove it, its answers are then asked for again"
            ) from error

    def __enter__(self) -> "KeptAnswers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()

    def get(self, key: str) -> str | None:
        """The answer kept under a key."""
        found = self._db.execute("select content from answers where key = ?", (key,)).fetchone()
        return found[0] if found else None

    def keep(self, key: str, content: str, *, stage: str) -> None:
        """Keep an answer that was found good."""
        self._db.execute("insert or replace into answers values (?, ?, ?)", (key, content, stage))

    def num_kept(self, keys: Iterable[str]) -> int:
        """How many of the keys have an answer."""
        return sum(self.get(key) is not None for key in keys)

    def rung(self, server: str) -> str | None:
        """How the server is asked for JSON, as it was found out."""
        found = self._db.execute("select rung from ladders where server = ?", (server,)).fetchone()
        return found[0] if found else None

    def remember_rung(self, server: str, rung: str) -> None:
        """Remember how the server is asked for JSON."""
        self._db.execute("insert or replace into ladders values (?, ?)", (server, rung))

    def reserve(self, stage: str, tariff: Tariff, tokens_in: int, tokens_out: int) -> int | None:
        """Reserve the most that a call can use; its id, or None where that would be more than a budget."""
        tokens, usd = tokens_in + tokens_out, tariff.usd(tokens_in, tokens_out)
        limits = (tariff.budget_tokens, tariff.budget_usd)
        most = [float("inf") if limit is None else limit for limit in limits]
        with closing(self._db.cursor()) as cursor:
            cursor.execute("begin immediate")
            cursor.execute(
                "update totals set tokens = tokens + ?, usd = usd + ? where tokens + ? <= ? and usd + ? <= ?",
                (tokens, usd, tokens, most[0], usd, most[1]),
            )
            if not cursor.rowcount:
                cursor.execute("rollback")
                return None
            row = (stage, IN_FLIGHT, tokens_in, tokens_out, usd)
            cursor.execute("insert into calls values (null, ?, ?, ?, ?, ?)", row)
            call = cursor.lastrowid
            cursor.execute("commit")
            return call

    def settle(self, call: int, tariff: Tariff, outcome: str, used: tuple[int, int] | None) -> None:
        """Put what a call used in the place of what was reserved; None: nobody knows, so what was reserved."""
        with closing(self._db.cursor()) as cursor:
            cursor.execute("begin immediate")
            if used is None:
                cursor.execute("update calls set outcome = ? where id = ?", (outcome, call))
            else:
                before = cursor.execute(
                    "select tokens_in + tokens_out, usd from calls where id = ?", (call,)
                ).fetchone()
                usd = tariff.usd(*used)
                cursor.execute(
                    "update totals set tokens = tokens + ?, usd = max(0.0, usd + ?)",
                    (sum(used) - before[0], usd - before[1]),
                )
                row = (outcome, *used, usd, call)
                cursor.execute(
                    "update calls set outcome = ?, tokens_in = ?, tokens_out = ?, usd = ? where id = ?", row
                )
            cursor.execute("commit")

    def spent(self) -> tuple[int, float]:
        """Tokens and dollars of all calls, what is reserved included."""
        tokens, usd = self._db.execute("select tokens, usd from totals").fetchone()
        return tokens, usd

    def account(self) -> Mapping[str, Mapping[str, float]]:
        """Calls by outcome, good answers, tokens and dollars of each stage, of all runs."""
        rows = self._db.execute(
            "select stage, outcome, count(*), sum(tokens_in), sum(tokens_out), sum(usd) from calls "
            "group by stage, outcome"
        )
        stages: dict[str, dict[str, float]] = {}
        for stage, outcome, calls, tokens_in, tokens_out, usd in rows:
            one = stages.setdefault(stage, {"calls": 0, "tokens_in": 0, "tokens_out": 0, "usd": 0.0})
            for name, value in (("calls", calls), ("tokens_in", tokens_in), ("tokens_out", tokens_out), ("usd", usd)):
                one[name] += value
            one[outcome] = calls
        for stage, answers in self._db.execute("select stage, count(*) from answers group by stage"):
            stages.setdefault(stage, {})["answers"] = answers
        return stages
