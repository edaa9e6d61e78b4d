"""Every message of every error, as it stands in the code.

With PERSONARANK_MESSAGES=write they are written into one file to look at, error_messages.txt, which is not kept: it
would repeat the code. Those of raw files, with their values filled in, are in raw/messages.txt.
"""

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import personarank_dagster
from personarank_dagster.core.errors import PersonarankError, listed_by_name, reason_of

PACKAGE = Path(personarank_dagster.__file__).parent
MESSAGES = Path(__file__).with_name("error_messages.txt")
ERRORS = {error.__name__ for error in PersonarankError.__subclasses__()} | {
    "UsageError",
    "ClickException",
    "RowError",
    "Treated",
}


def messages() -> Iterator[tuple[str, str]]:
    """Module and message, with what is filled in as the code that gives it."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and getattr(call.func, "id", getattr(call.func, "attr", "")) in ERRORS:
                texts = [
                    _text(argument) for argument in call.args if isinstance(argument, ast.JoinedStr | ast.Constant)
                ]
                yield str(path.relative_to(PACKAGE)), " -> ".join(text for text in texts if text)


def _text(argument: ast.expr) -> str:
    parts = argument.values if isinstance(argument, ast.JoinedStr) else [argument]
    return "".join(_filled_in(part) if isinstance(part, ast.FormattedValue) else str(part.value) for part in parts)


def _filled_in(part: ast.FormattedValue) -> str:
    return f"{{{ast.unparse(part.value)}{'!r' if part.conversion == ord('r') else ''}}}"


ALL = sorted({(module, text) for module, text in messages() if text})


def test_messages_can_be_looked_at_in_one_file(tmp_path: Path) -> None:
    place = MESSAGES if os.environ.get("PERSONARANK_MESSAGES") == "write" else tmp_path / MESSAGES.name
    place.write_text("".join(f"{module}\n  {text}\n\n" for module, text in ALL))
    assert len(ALL) > 100


@pytest.mark.parametrize("text", [text for _, text in ALL])
def test_a_message_is_one_line_says_nothing_twice_and_hands_on_no_words_of_a_library(text: str) -> None:
    filled_in = re.findall(r"\{([^{}]*)\}", text)
    assert "\n" not in text.replace("\n{self._places}", "")
    assert not re.search(r"\bgot [^;]*\bgot |\bexpected [^;]*\bexpected |msgspec|polars|pydantic", text)
    assert not {"error", "error!r", "str(error)"} & {*filled_in}, "reason_of(error) has no marks of a library"
    assert not [one for one in filled_in if one.startswith(("sorted(", "list(", "dict("))], "join the names"


def test_reasons_and_values_are_for_people() -> None:
    assert (
        reason_of(ValueError("JSON is malformed: invalid character (byte 3)\nmore")) == "invalid character (byte 3)"
    )
    assert reason_of(TypeError("Expected `str`, got `int`")) == "Expected str, got int"
    assert reason_of(FileNotFoundError(2, "No such file", "/x")) == "No such file"
    assert (reason_of(KeyError("weight")), reason_of(ValueError())) == ("has no weight", "ValueError")
    assert listed_by_name({"not liked": 3, "unknown": 1}) == "not liked 3, unknown 1"
