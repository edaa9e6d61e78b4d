"""What is wrong with a line, for a person: field, rule, value."""

import json
import re
from collections.abc import Iterator
from math import isfinite
from typing import Any

import msgspec

from personarank_dagster.core.errors import reason_of
from personarank_dagster.raw.rows import RowError, shorten

_AT = re.compile(r" - at `\$\.?(?P<path>.*?)`$")
_MISSING = re.compile(r"Object missing required field `(?P<name>.*)`")
_EXPECTED = re.compile(r"Expected `(?P<types>[^`]*)`(?P<bound> [<>=o].*?)?(?:, got `.*`)?")
_HALF = re.compile("[\ud800-\udfff]")
TIME_TYPES = "int | float | str"
_TYPES = {"str": "text", "int": "a number", "float": "a number", "array": "a list", "object": "an object"}


def place_and_problem(error: ValueError | RecursionError, text: bytes) -> tuple[str, str]:
    """Path of the field, empty for the line itself, and what is wrong there: `expected a number, got 'five'`."""
    if isinstance(error, RecursionError):
        return "", "is nested too deep"
    if isinstance(error, RowError):
        return error.path, str(error)
    value = _parsed(text)
    if isinstance(error, msgspec.ValidationError):
        return _broken_rule(str(error), value)
    if found := _first_odd(value):
        path, odd = found
        if isinstance(odd, _Endless):
            return path, f"expected a finite number, got {odd!r}"
        return path, f"expected characters, got half of a surrogate pair, {_HALF.findall(odd)[0]!r}"
    # The line is not quoted: errors show the value that breaks a rule, and no text beside it.
    return "", f"is not valid JSON: {reason_of(error)}"


def _broken_rule(message: str, value: Any) -> tuple[str, str]:
    """What msgspec says of a value, with the value."""
    at = _AT.search(message)
    path = at["path"] if at else ""
    message = _AT.sub("", message)
    found = _value_at(value, path)
    if missing := _MISSING.fullmatch(message):
        return ".".join(filter(None, [path, missing["name"]])), f"is missing, got {_keys(found)}"
    return path, f"{_rule(message)}, got {shorten(found)}"


def _keys(value: Any) -> str:
    names = ", ".join(value) if isinstance(value, dict) else ""
    return f"the keys {shorten(names, quoted=False)}" if names else "an object without keys"


def _rule(message: str) -> str:
    if found := _EXPECTED.fullmatch(message):
        types = found["types"].removesuffix(" | null")
        names = (
            "a time" if types == TIME_TYPES else " or ".join(_TYPES.get(name, name) for name in types.split(" | "))
        )
        return (
            f"expected {names}{' that is not empty' if found['bound'] == ' of length >= 1' else found['bound'] or ''}"
        )
    return "expected a finite number" if message == "Number out of range" else message[:1].lower() + message[1:]


class _Endless(str):
    """A number that is none, as it stands in the line: NaN, -Infinity, 1e999."""

    __slots__ = ()
    __repr__ = str.__str__


def _number(text: str) -> float | _Endless:
    return float(text) if isfinite(float(text)) else _Endless(text)


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line, parse_float=_number, parse_constant=_Endless)
    except (ValueError, RecursionError):
        return line.decode(errors="replace")


def _first_odd(value: Any) -> tuple[str, str] | None:
    try:
        return next(_odd(value), None)
    except RecursionError:
        return None


def _odd(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Each number inside the value that is none, and each text that is none, with its path."""
    if isinstance(value, _Endless) or (path and isinstance(value, str) and _HALF.search(value)):
        yield path, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _odd(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from _odd(inner, f"{path}[{i}]")


def _value_at(value: Any, path: str) -> Any:
    for name, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", path):
        try:
            value = value[name] if name else value[int(index)]
        except (KeyError, IndexError, TypeError):
            return value
    return value
