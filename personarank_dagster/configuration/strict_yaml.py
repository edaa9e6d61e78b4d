"""YAML files, read strictly into a class: every error names file, key, rule and value."""

import difflib
import os
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import msgspec
import yaml

from personarank_dagster.core.errors import ConfigError

ConfigT = TypeVar("ConfigT", bound=msgspec.Struct)


def load_yaml(path: Path, config_type: type[ConfigT]) -> ConfigT:
    """Read one YAML file strictly. Raises ConfigError with one line per problem."""
    values = read_mapping(path)
    rules = get_type_hints(config_type, include_extras=True)
    required = {field.name for field in msgspec.structs.fields(config_type) if field.required}
    problems = [_unknown_key(path, key, rules) for key in values if key not in rules]
    problems += [f"{path}: {key} is missing; it must be {_rule(rules[key])}" for key in required - values.keys()]
    # The public files leave optional keys empty instead of leaving them out.
    optional = {field.name for field in msgspec.structs.fields(config_type) if field.default is None}
    known = {key: value for key, value in values.items() if key in rules and not (key in optional and value == "")}
    converted = {key: _convert(path, key, value, rules[key], problems) for key, value in known.items()}
    if problems:
        raise ConfigError("\n".join(sorted(problems)))
    return config_type(**converted)


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice (YAML would silently keep the last)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        repeated = next((key for i, key in enumerate(keys) if key in keys[:i]), None)
        if repeated is not None:
            raise yaml.MarkedYAMLError(problem=f"key {repeated} is given twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


def read_mapping(path: Path) -> dict[str, Any]:
    """Keys and values of a YAML file as they stand there. Raises ConfigError if it holds none."""
    try:
        values = _parse_yaml(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: must hold `key: value` lines, got {type(values).__name__}")
    return values


# A run reads its files hundreds of times, so that an edit counts; what did not change is not parsed again.
@lru_cache
def _parse_yaml(content: bytes) -> Any:
    return yaml.load(content, _StrictLoader)


def _unknown_key(path: Path, key: object, rules: dict[str, Any]) -> str:
    close = difflib.get_close_matches(str(key), rules, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known keys: {', '.join(rules)}"
    return f"{path}: unknown key {key}; {hint}"


def _convert(path: Path, key: str, value: Any, rule: Any, problems: list[str]) -> Any:
    try:
        if isinstance(value, float) and value != value:
            raise msgspec.ValidationError("NaN")
        return msgspec.convert(value, rule, dec_hook=lambda _, text: relative_path(path, text))
    except (msgspec.ValidationError, TypeError):
        hint = " (YAML reads it as text: write 1.0e-3)" if _is_number_text(value) else ""
        problems.append(f"{path}: {key} must be {_rule(rule)}, got {value!r}{hint}")


def relative_path(path: Path, text: object) -> Path:
    """The path that a file names; a relative one begins in its folder. Raises ValidationError if it is none."""
    if not isinstance(text, str) or not text:
        raise msgspec.ValidationError("not a path")
    return Path(os.path.normpath(path.parent / Path(text).expanduser()))


def _is_number_text(value: object) -> bool:
    try:
        return isinstance(value, str) and float(value) is not None
    except ValueError:
        return False


def _rule(rule: Any) -> str:
    options = [rule, *getattr(rule, "__args__", ())]
    metas = [meta for option in options for meta in getattr(option, "__metadata__", ())]
    return next(str(meta.description) for meta in metas if meta.description)
