"""Whether an object of a JSON text gives a key twice: each parser keeps one of the two values and says nothing."""

import json
from typing import Any

import numpy as np

_COLON, _QUOTE, _BACKSLASH, _LAST_BLANK = b':"\\ '

UNKNOWN = -1


def count_keys(content: bytes) -> int:
    r"""How many keys all objects of valid JSON have, from a look at the bytes before each colon; or UNKNOWN.

    A key ends in `":`, and within a string that is `\":`. UNKNOWN if a key may end in `\\":`, or have white space
    before its colon. If no more distinct keys were read than this, none is given twice.
    """
    text = np.frombuffer(content, np.uint8)
    colons = np.flatnonzero(text == _COLON)
    before, second, third = text[colons - 1], text[colons - 2], text[colons - 3]
    quoted = before == _QUOTE
    escaped = quoted & (second == _BACKSLASH)
    blank = (before <= _LAST_BLANK) & ((second == _QUOTE) | (second <= _LAST_BLANK))
    if blank.any() or (escaped & (third == _BACKSLASH)).any():
        return UNKNOWN
    return int(np.count_nonzero(quoted) - np.count_nonzero(escaped))


def refuse_repeated_keys(content: bytes | str) -> None:
    """Raise ValueError, with the key, if an object of this JSON text gives one twice; RecursionError if too deep."""
    json.loads(content, object_pairs_hook=_refuse)


def _refuse(pairs: list[tuple[str, Any]]) -> None:
    if len({key for key, _ in pairs}) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for i, key in enumerate(keys) if key in keys[:i])
        raise ValueError(f"key {repeated[:60]!r} is given twice in one object")
