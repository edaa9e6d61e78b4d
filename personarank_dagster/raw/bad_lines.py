"""Lines that break a rule: what happens with them, and the account of a file's lines."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from personarank_dagster.core.errors import InputError

# Places that an error names. Where bad lines stop the run anyway, the others are only counted.
NAMED_PLACES = 20

# Bad lines are held in memory until they are written to the quarantine.
MAX_QUARANTINE_BYTES = 256 << 20


@dataclass(frozen=True)
class ReadRules:
    """What to do with bad lines, and how much a file may ask for.

    fail: read to the end, then raise with the first places. quarantine: set bad lines aside, but raise if they are
    more than `max_bad_share` of all lines. A line over `max_line_bytes`, or a gzip file that unpacks to more than
    `max_gzip_ratio` times its size, always raises.
    """

    on_bad_row: Literal["fail", "quarantine"] = "fail"
    max_bad_share: float = 0.01
    max_line_bytes: int = 64 << 20
    max_gzip_ratio: int = 200


@dataclass(frozen=True)
class BadLine:
    """A line that breaks a rule: where it stands, in which field, empty for the line itself, why, what it holds."""

    path: Path
    line: int
    field: str
    problem: str
    content: bytes

    @property
    def reason(self) -> str:
        """Field and problem."""
        return f"field {self.field}: {self.problem}" if self.field else self.problem

    def __str__(self) -> str:
        return f"{self.path} line {self.line}{', ' if self.field else ': '}{self.reason}"


@dataclass
class Account:
    """How many lines of a file were read, without blank ones, and which of them are bad."""

    path: Path
    rules: ReadRules
    num_lines: int = 0
    num_bad: int = 0
    bad: list[BadLine] = field(default_factory=list)
    _rules: set[str] = field(default_factory=set)
    _num_bytes: int = 0

    def add(self, num_lines: int, bad: Sequence[BadLine], lines_before: int) -> None:
        """Count lines; the numbers of the bad ones start after `lines_before`. InputError if they are too big."""
        self.num_lines += num_lines
        for line in bad:
            self.num_bad += 1
            if len(self._rules) < 2:
                self._rules.add(line.reason.split(", got ")[0])
            if self.rules.on_bad_row == "quarantine" or len(self.bad) < NAMED_PLACES:
                self._num_bytes += len(line.content)
                self.bad.append(replace(line, line=lines_before + line.line))
        if self._is_too_much(0):
            limit = f"more than {MAX_QUARANTINE_BYTES >> 20} MB, the most that the quarantine takes"
            raise InputError(f"{self.path}: {self.num_bad} bad lines hold {limit}\n{self._places}")

    def take(self, other: "Account") -> bool:
        """Take over the account of the next file, which was kept apart; False if the quarantine would be too big."""
        if self._is_too_much(other._num_bytes):
            return False
        self.num_lines += other.num_lines
        self.num_bad += other.num_bad
        # Two say that there are several.
        self._rules |= other._rules
        room = None if self.rules.on_bad_row == "quarantine" else max(0, NAMED_PLACES - len(self.bad))
        self.bad += other.bad[:room]
        self._num_bytes += other._num_bytes
        return True

    def close(self) -> None:
        """Raise InputError for an empty file, or bad lines that stop the run: in `fail` any, else too many."""
        if not self.num_lines:
            raise InputError(
                f"{self.path}: expected at least one line, got an empty file; write it again, or leave its key "
                "out of data.yaml if it is optional"
            )
        share = self.rules.max_bad_share
        if not self.num_bad or (self.rules.on_bad_row == "quarantine" and self.num_bad <= share * self.num_lines):
            return
        remedy = (
            "fix the line or set on_bad_row: quarantine"
            if self.rules.on_bad_row == "fail"
            else f"more than max_bad_share {share} of {self.num_lines} lines; fix them or raise it"
        )
        if self.num_bad == 1:
            raise InputError(f"{self.bad[0]}; {remedy}")
        if self.num_bad == self.num_lines and len(self._rules) == 1:
            first = self.bad[0]
            where = f"{first.path} line {first.line}" if first.path != self.path else f"line {first.line}"
            raise InputError(f"{self.path}: every line, {first.reason} in {where}; is it the right file?")
        raise InputError(f"{self.path}: {self.num_bad} bad lines of {self.num_lines}; {remedy}\n{self._places}")

    def _is_too_much(self, more: int) -> bool:
        return self.rules.on_bad_row == "quarantine" and self._num_bytes + more > MAX_QUARANTINE_BYTES

    @property
    def _places(self) -> str:
        return "\n".join(f"  {line}" for line in self.bad[:NAMED_PLACES])


def write_quarantine(bad_lines: Sequence[BadLine], path: Path) -> None:
    """Write bad lines, verbatim, with file, line and reason; without any, the file goes. Replaced in one step.

    Bytes that are no UTF-8 are kept in `content` as lone surrogates (Python's surrogateescape).
    """
    if not bad_lines:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", encoding="ascii") as file:
        for line in bad_lines:
            content = line.content.decode("utf-8", "surrogateescape")
            file.write(
                json.dumps({"file": str(line.path), "line": line.line, "reason": line.reason, "content": content})
            )
            file.write("\n")
    temporary.replace(path)
