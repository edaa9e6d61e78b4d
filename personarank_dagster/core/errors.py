"""Every error a user can cause, in one tree.

    PersonarankError
    ├── ConfigError     a YAML file or setting breaks a rule
    │   └── UsageError  what was typed names nothing that is there
    ├── InputError      a raw file cannot be read as what it should be
    ├── ContractError   a result breaks its contract, so it is not published
    ├── StorageError    a managed output is missing, damaged or cannot be written
    └── EncoderError    an encoder is missing, damaged or cannot be used

Each message is one line a problem: thing, rule, value, place, remedy.
"""

import difflib
from collections.abc import Iterable, Mapping


class PersonarankError(Exception):
    """Base of every error that this package raises on purpose."""


class ConfigError(PersonarankError):
    """A YAML file or a setting breaks a rule."""


class UsageError(ConfigError):
    """What was typed names nothing that is there, or asks for what cannot be."""


class InputError(PersonarankError):
    """A raw file cannot be read as what it should be."""


class ContractError(PersonarankError):
    """A result breaks its contract, so it is not published."""


class StorageError(PersonarankError):
    """A managed output is missing, damaged or cannot be written."""


class EncoderError(PersonarankError):
    """An encoder is missing, damaged or cannot be used."""


def reason_of(error: BaseException) -> str:
    """What a library or the operating system says, in one line without its own marks, for a message of ours."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, KeyError):
        return f"has no {error.args[0]}"
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].removeprefix("JSON is malformed: ").replace("`", "")


def near(name: str, known: Iterable[str]) -> str:
    """`did you mean …? `, before the known names of a message; empty where none is like this one."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {close[0]}? " if close else ""


def listed_by_name(values: Mapping[str, object]) -> str:
    """Names with their values, for a message."""
    return ", ".join(f"{name} {value}" for name, value in values.items())
