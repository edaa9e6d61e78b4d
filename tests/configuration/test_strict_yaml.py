from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personarank_dagster.configuration.settings import RerankConfig, ScheduleConfig, TrainConfig
from personarank_dagster.configuration.strict_yaml import load_yaml, read_mapping
from personarank_dagster.core.errors import ConfigError


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "file.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def problem(folder: Path, text: str | bytes, config_type: type = TrainConfig) -> str:
    with pytest.raises(ConfigError) as error:
        load_yaml(write(folder, text), config_type)
    return str(error.value).replace(f"{folder}/", "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 017", 'got 017 (YAML reads 15: write it in decimal, or "017" for text)'),
        ("seed: 12:30", 'got 12:30 (YAML reads 750: write it in decimal, or "12:30" for text)'),
        ("seed: 0x1F", 'got 0x1F (YAML reads 31: write it in decimal, or "0x1F" for text)'),
        ("seed: 0o17", "got '0o17'"),
        ("lr: 1:30.5", 'got 1:30.5 (YAML reads 90.5: write it in decimal, or "1:30.5" for text)'),
        ("st_revision: 0123", 'got 0123 (YAML reads 83: write it in decimal, or "0123" for text)'),
        ("tune: 2024-13-45", "got '2024-13-45'"),
    ],
)
def test_what_people_and_yaml_read_differently_is_refused(tmp_path: Path, text: str, message: str) -> None:
    assert problem(tmp_path, f"st_path: m\n{text}").endswith(message)


def test_what_looks_like_a_date_is_text(tmp_path: Path) -> None:
    assert (
        load_yaml(write(tmp_path, "st_path: o/m\nst_revision: 2024-01-01"), TrainConfig).st_revision == "2024-01-01"
    )


@given(st.integers() | st.floats(allow_nan=False, allow_infinity=False))
def test_a_decimal_number_is_read_as_itself(tmp_path_factory: pytest.TempPathFactory, number: float) -> None:
    text = f"{number:.20f}" if isinstance(number, float) else str(number)
    found = read_mapping(write(tmp_path_factory.getbasetemp(), f"a: {text}"))["a"]
    assert (found, type(found)) == (type(number)(text), type(number))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ks: [5, 5, 0]", "ks must be a list of whole numbers from 1, each once, like [5, 10, 20], got [5, 5, 0]"),
        ("ks: [5, 10, 5]", "ks must be a list of whole numbers from 1, each once, like [5, 10, 20], got [5, 10, 5]"),
        ("ks: [010]", 'got [010 (YAML reads 8: write it in decimal, or "010" for text)]'),
        ("alpha: .nan", "alpha must be a number in [0, 1], or auto, got nan"),
        ("ext_persona_cache: ~no-such-user/c", "must be the path of a folder, got '~no-such-user/c'"),
        ('ext_persona_cache: "a\\0b"', "must be the path of a folder, got 'a\\x00b'"),
    ],
)
def test_a_value_that_breaks_a_rule_is_shown(tmp_path: Path, text: str, message: str) -> None:
    assert problem(tmp_path, text, RerankConfig).endswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "line 3: key a is given twice, first in line 1; remove one of them"),
        ("a: [1, 2\nb: 3", "line 2: while parsing a flow sequence did not find expected ',' or ']'"),
        ("a: !!int x", "invalid literal for int() with base 10: 'x'"),
        ("a: !!float ''", "string index out of range"),
        ("a: 1\n---\nb: 2", "line 2: expected a single document in the stream but found another document"),
        (b"a: \xff", 'unacceptable character #x00ff: invalid leading UTF-8 octet in "<byte string>", position 3'),
    ],
)
def test_what_is_no_yaml_is_one_line_with_its_place(tmp_path: Path, text: str | bytes, message: str) -> None:
    assert problem(tmp_path, text) == f"file.yaml: is not valid YAML: {message}"


@pytest.mark.parametrize(("text", "got"), [("", "nothing"), ("- 1", "[1]"), ("some words", "'some words'")])
def test_a_file_without_keys_is_refused(tmp_path: Path, text: str, got: str) -> None:
    assert problem(tmp_path, text) == f"file.yaml: must hold `key: value` lines, got {got}"


def test_a_file_too_long_for_one_of_ours_is_not_parsed(tmp_path: Path) -> None:
    assert problem(tmp_path, "[" * 200_000).startswith("file.yaml: must have at most 16,000 bytes, got 200,000; ")


def test_known_keys_are_listed_once(tmp_path: Path) -> None:
    lines = problem(tmp_path, "every: day\nwhen: noon\ncorn: 0 3 * * *", ScheduleConfig).splitlines()
    assert lines == [
        "file.yaml: unknown key corn; did you mean cron?",
        "file.yaml: unknown keys every, when; known keys: cron, timezone, job, enabled",
    ]
