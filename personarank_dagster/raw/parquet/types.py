"""Types of parquet columns against those of lines: what is read of a file, and which column needs a cast."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl
from msgspec.inspect import (
    AnyType,
    Field,
    FloatType,
    IntType,
    ListType,
    NoneType,
    StrType,
    StructType,
    Type,
    UnionType,
    type_info,
)

Columns = dict[str, pl.DataType]


@dataclass
class ColumnTypes:
    """Finds the type as which each column is read; `problems` are the columns that have no such type."""

    problems: list[str] = field(default_factory=list)

    def read_as(self, schema: Mapping[str, pl.DataType], row_type: Any) -> Columns:
        """Columns that lines of this type have; what nothing reads is not among them, inside of structs neither."""
        line = type_info(row_type)
        assert isinstance(line, StructType)
        found = self._fields("", schema, line.fields)
        if not found:
            names = _listed(one.encode_name for one in line.fields if not isinstance(one.type, AnyType))
            self.problems.append(f"columns: expected some of {names}, got {_listed(schema)}; is it the right file?")
        return found

    def _fields(self, path: str, given: Mapping[str, pl.DataType], fields: Iterable[Field]) -> Columns:
        found: Columns = {}
        for one in fields:
            place = f"{path}.{one.encode_name}" if path else one.encode_name
            if one.encode_name not in given:
                if one.required:
                    self.problems.append(f"column {place}: is missing, got {_listed(given)}; add or rename it")
            elif not isinstance(one.type, AnyType):
                found[one.encode_name] = self._value(place, given[one.encode_name], one.type)
        return found

    def _value(self, path: str, given: pl.DataType, rule: Type) -> pl.DataType:
        for option in _options(rule):
            match option, given:
                case StructType(), pl.Struct():
                    types = self._fields(
                        path, {one.name: _instance(one.dtype) for one in given.fields}, option.fields
                    )
                    return pl.Struct(types) if types else given
                case ListType(), pl.List() | pl.Array():
                    return pl.List(self._value(f"{path}[]", _instance(given.inner), option.item_type))
                case StrType(), pl.String() | pl.Categorical() | pl.Enum():
                    return pl.String()
                case FloatType() | IntType(), _ if given.is_numeric():
                    return given
        if _is_time(rule) and isinstance(given, pl.Date | pl.Datetime):
            return pl.String()
        if not isinstance(given, pl.Null):
            self.problems.append(
                f"column {path}: expected {_named(rule)}, got {_shortened(_told(given))}{_remedy(rule, given)}"
            )
        return given


def _options(rule: Type) -> tuple[Type, ...]:
    options = rule.types if isinstance(rule, UnionType) else (rule,)
    return tuple(option for option in options if not isinstance(option, NoneType))


def _is_time(rule: Type) -> bool:
    return {StrType, FloatType} <= set(map(type, _options(rule)))


def _named(rule: Type) -> str:
    return "a time" if _is_time(rule) else " or ".join(map(_name, _options(rule)))


def _name(option: Type) -> str:
    match option:
        case StructType():
            needed = (one.encode_name for one in option.fields if one.required or one.encode_name == "item_id")
            return f"a struct with {_listed(needed) or option.fields[0].encode_name}"
        case ListType():
            return f"a list of {_named(option.item_type)}"
        case StrType():
            return "text"
    return "a number"


def _remedy(rule: Type, given: pl.DataType) -> str:
    kinds = set(map(type, _options(rule)))
    if given.is_nested() or not kinds & {StrType, FloatType}:
        return "; write the column anew"
    return f"; cast it to {'String' if StrType in kinds else 'Float64'}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def _told(dtype: pl.DataType) -> str:
    match dtype:
        case pl.Struct():
            return f"a struct with {_listed(f'{one.name} ({_told(_instance(one.dtype))})' for one in dtype.fields)}"
        case pl.List() | pl.Array():
            return f"a list of {_told(_instance(dtype.inner))}"
    return str(dtype)


def _shortened(text: str, limit: int = 80) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _instance(dtype: Any) -> pl.DataType:
    found: pl.DataType = dtype() if isinstance(dtype, type) else dtype
    return found
