"""YAML files, read strictly into a class: every error names file, key, rule and value."""

import difflib
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import msgspec
import yaml

from personarank_dagster.core.errors import ConfigError, reason_of
from personarank_dagster.core.file_lists import SEVERAL, FileList

ConfigT = TypeVar("ConfigT", bound=msgspec.Struct)

# The parser in C ends the process where brackets are nested some ten thousand deep.
MAX_BYTES = 16_000

# The same in C, where PyYAML has it.
_SafeLoader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load_yaml(
    path: Path,
    config_type: type[ConfigT],
    *,
    defaults: Mapping[str, object] | None = None,
    passed_over: Mapping[str, str] | None = None,
    needed: Collection[str] = (),
) -> ConfigT:
    """Read one YAML file strictly, with the defaults for keys that it lacks, and without those that mean nothing.

    `needed` are keys that must be there though the class does not say so. Raises ConfigError with one line per
    problem.
    """
    values = {**(defaults or {}), **read_mapping(path)}
    rules, required, optional = _keys_of(config_type)
    required, optional = required.union(needed), optional.difference(needed)
    problems = _unknown_keys(path, [key for key in values if key not in {**rules, **(passed_over or {})}], rules)
    problems += [f"{path}: {key} is missing; it must be {_rule(rules[key])}" for key in required - values.keys()]
    # The public files leave optional keys empty instead of leaving them out.
    known = {key: value for key, value in values.items() if key in rules and not (key in optional and value == "")}
    converted = {key: _convert(path, key, value, rules[key], problems) for key, value in known.items()}
    if problems:
        raise ConfigError("\n".join(sorted(problems)))
    return config_type(**converted)


@lru_cache
def _keys_of(config_type: type[msgspec.Struct]) -> tuple[dict[str, Any], set[str], set[str]]:
    """Rules by key, and the keys that must be there and that may be empty."""
    fields = msgspec.structs.fields(config_type)
    required = {field.name for field in fields if field.required}
    optional = {field.name for field in fields if field.default is None}
    return get_type_hints(config_type, include_extras=True), required, optional


@dataclass(frozen=True)
class _Ambiguous:
    """A number that YAML does not read as people do, as it stands in the file, and what YAML reads."""

    text: str
    reading: float

    def __repr__(self) -> str:
        return f'{self.text} (YAML reads {self.reading}: write it in decimal, or "{self.text}" for text)'


class _StrictLoader(_SafeLoader):  # type: ignore[misc, valid-type]
    """SafeLoader that refuses a key given twice (YAML would keep the last) and numbers that are not decimal.

    YAML 1.1, which PyYAML reads, takes 017 for 15, 12:30 for 750, and what looks like a date for one.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys: list[Any] = []
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in keys:
                first = node.value[keys.index(key)][0].start_mark.line + 1
                problem = f"key {key} is given twice, first in line {first}; remove one of them"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key_node.start_mark)
            keys.append(key)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping

    def construct_int(self, node: yaml.ScalarNode) -> int | _Ambiguous:
        number: int = self.construct_yaml_int(node)
        return (
            number if node.value.lstrip("+-").replace("_", "") == str(abs(number)) else _Ambiguous(node.value, number)
        )

    def construct_float(self, node: yaml.ScalarNode) -> float | _Ambiguous:
        number: float = self.construct_yaml_float(node)
        return _Ambiguous(node.value, number) if ":" in node.value else number


_StrictLoader.add_constructor("tag:yaml.org,2002:int", _StrictLoader.construct_int)
_StrictLoader.add_constructor("tag:yaml.org,2002:float", _StrictLoader.construct_float)
_StrictLoader.add_constructor("tag:yaml.org,2002:timestamp", _StrictLoader.construct_yaml_str)


def read_mapping(path: Path) -> dict[str, Any]:
    """Keys and values of a YAML file as they stand there. Raises ConfigError if it holds none."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {reason_of(error)}; a dataset needs data.yaml, train.yaml and rerank.yaml"
        ) from error
    if len(content) > MAX_BYTES:
        raise ConfigError(
            f"{path}: must have at most {MAX_BYTES:,} bytes, got {len(content):,}; is it the right file?"
        )
    try:
        values = _parse_yaml(content)
    except (yaml.YAMLError, ValueError, LookupError, RecursionError) as error:
        raise ConfigError(f"{path}: is not valid YAML: {_problem(error)}") from error
    if not isinstance(values, dict):
        got = "nothing" if values is None else f"{values!r:.50}"
        raise ConfigError(f"{path}: must hold `key: value` lines, got {got}")
    return values


# A run reads its files hundreds of times, so that an edit counts; what did not change is not parsed again.
@lru_cache
def _parse_yaml(content: bytes) -> Any:
    return yaml.load(content, _StrictLoader)


def _problem(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        what = " ".join(filter(None, [error.context, error.problem]))
        return f"line {error.problem_mark.line + 1}: {what}"
    return " ".join(str(error).split())


def _unknown_keys(path: Path, keys: list[object], rules: Mapping[str, object]) -> list[str]:
    """A line for each key that is near to a known one, and one for all others, with the known keys."""
    near = {key: difflib.get_close_matches(str(key), rules, n=1) for key in keys}
    far = [str(key) for key, close in near.items() if not close]
    lines = [f"{path}: unknown key {key}; did you mean {close[0]}?" for key, close in near.items() if close]
    if far:
        s = "s" if len(far) > 1 else ""
        lines.append(f"{path}: unknown key{s} {', '.join(far)}; known keys: {', '.join(rules)}")
    return lines


def _convert(path: Path, key: str, value: Any, rule: Any, problems: list[str]) -> Any:
    try:
        if isinstance(value, float) and value != value:
            raise msgspec.ValidationError("NaN")
        if isinstance(value, list) and any(one in value[:place] for place, one in enumerate(value)):
            raise msgspec.ValidationError("repeated")
        read = files_of if _may_be_several(rule) else relative_path
        return msgspec.convert(value, rule, dec_hook=lambda _, given: read(path, given))
    except (msgspec.ValidationError, TypeError):
        hint = " (YAML reads it as text: write 1.0e-3)" if _is_number_text(value) else ""
        problems.append(f"{path}: {key} must be {_rule(rule)}, got {value!r}{hint}")


def relative_path(path: Path, text: object) -> Path:
    """The path that a file names; a relative one begins in its folder. Raises ValidationError if it is none."""
    if not isinstance(text, str) or not text or "\0" in text:
        raise msgspec.ValidationError("not a path")
    try:
        return Path(os.path.normpath(path.parent / Path(text).expanduser()))
    except RuntimeError as error:
        raise msgspec.ValidationError("nobody's home") from error


def files_of(path: Path, given: object) -> Path:
    """The path that a file names, or the paths as one. Raises ValidationError."""
    if not isinstance(given, list):
        return relative_path(path, given)
    if not given:
        raise msgspec.ValidationError("no path")
    return FileList([relative_path(path, text) for text in given])


def _may_be_several(rule: Any) -> bool:
    return any((meta.extra or {}).get(SEVERAL) for meta in _metas(rule))


def _is_number_text(value: object) -> bool:
    try:
        return isinstance(value, str) and float(value) is not None
    except ValueError:
        return False


def _rule(rule: Any) -> str:
    return next(str(meta.description) for meta in _metas(rule) if meta.description)


def _metas(rule: Any) -> list[msgspec.Meta]:
    options = [rule, *getattr(rule, "__args__", ())]
    return [meta for option in options for meta in getattr(option, "__metadata__", ())]
