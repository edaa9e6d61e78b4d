"""The forms of a time in raw files, and the one that tables hold: microseconds since 1970, UTC."""

import re
from datetime import UTC, datetime

from personarank_dagster.raw.rows import RowError, Timestamp, shorten

# Epoch numbers from here on are milliseconds: as seconds they would lie beyond the year 5000.
FIRST_MILLISECONDS = 100_000_000_000

# The year 2500, in microseconds. A time that is written as one number, YYYYMMDDHHMMSS, lies beyond it.
LAST_MICROSECONDS = 16_725_225_600_000_000

# Numbers that are more likely a date, YYYYMMDD and YYYYMMDDHHMM, than an instant of 1970 and 1976.
DATES_AS_NUMBERS = ((19_000_101, 21_001_231), (190_001_010_000, 210_012_312_359))

# From here on whole numbers are milliseconds and nothing else.
SURELY_MILLISECONDS = DATES_AS_NUMBERS[-1][1] + 1

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_OF_NO_ZONE = datetime(1970, 1, 1)
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_COMPACT = re.compile(r"[0-9]{8}T[0-9]{6}(Z|[+-][0-9]{4})?")
_REVIEW_TIME = re.compile(r"[0-9]{1,2} [0-9]{1,2}, [0-9]{4}")


def microseconds(timestamp: Timestamp, path: str = "timestamp") -> int:
    """UTC microseconds of a time in any accepted form; RowError, with the path, for all others.

    Epoch seconds or milliseconds, as a number or its text; ISO text, extended or with all of its digits and a T; the
    `reviewTime` of Amazon (`09 13, 2009`). What names no zone is UTC.
    """
    moment = _moment(timestamp, path) if isinstance(timestamp, str) else timestamp
    if not isinstance(moment, datetime):
        return _of_number(moment, path)
    gap = moment - (_EPOCH if moment.tzinfo else _EPOCH_OF_NO_ZONE)
    return (gap.days * 86_400 + gap.seconds) * 1_000_000 + gap.microseconds


def _moment(text: str, path: str) -> datetime | int | float:
    """What a text says. Digits alone are never handed to `fromisoformat`, which takes any of them for hours."""
    try:
        if text[4:5] == "-" == text[7:8] or _COMPACT.fullmatch(text):
            return datetime.fromisoformat(text)
        if _NUMBER.fullmatch(text):
            return float(text) if "." in text else int(text)
        if _REVIEW_TIME.fullmatch(text):
            return datetime.strptime(text, "%m %d, %Y")
    except ValueError:
        pass
    rule = "epoch seconds or milliseconds, or ISO text such as 2023-08-08T12:00:00Z"
    raise RowError(path, f"expected {rule}, got {shorten(text)}") from None


def _of_number(number: float, path: str) -> int:
    if any(first <= number <= last for first, last in DATES_AS_NUMBERS):
        raise RowError(path, f"expected epoch seconds or milliseconds, got {number}, a date; write it YYYY-MM-DD")
    scale = 1_000 if abs(number) >= FIRST_MILLISECONDS else 1_000_000
    if not abs(number) * scale < LAST_MICROSECONDS:
        raise RowError(path, f"expected a time before the year 2500, got {shorten(number)}")
    return round(number * scale)
