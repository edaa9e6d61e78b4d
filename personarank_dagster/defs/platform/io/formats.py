"""How each managed output is checked, written, read and versioned."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import msgspec
import polars as pl

from personarank_dagster.core import schemas
from personarank_dagster.core.encoders import EncoderInfo
from personarank_dagster.core.schemas import Schema
from personarank_dagster.ranking.metrics import METRIC_NAMES, Coverage
from personarank_dagster.ranking.ranker import VectorTable
from personarank_dagster.storage.encoder_directory import (
    EncoderDirectory,
    open_encoder,
    write_info,
)
from personarank_dagster.storage.reranked import RERANKED_LINES, check_reranked, write_reranked_lines
from personarank_dagster.storage.tables import TABLE, Table, check_table, height, table_version, write_table
from personarank_dagster.vectors.embeddings import (
    check_embeddings,
    embeddings_version,
    read_embeddings,
    write_embeddings,
)

METRICS_JSON = "metrics.json"
# Where the ground truth of each user stands in every order, for who compares two versions.
PLACES = "places.parquet"

ValueT = TypeVar("ValueT")
Details = dict[str, Any]


class OutputFormat(ABC, Generic[ValueT]):
    """Format of one asset's output. `exports` are links for people: name under `out_root` -> file in the version."""

    exports: Mapping[str, str]

    @property
    def columns(self) -> Schema:
        """Columns of its table, or of its index; none where there is no table."""
        return {}

    @abstractmethod
    def check(self, name: str, value: ValueT) -> None:
        """Raise ContractError if the value breaks the contract of this output."""

    @abstractmethod
    def write(self, value: ValueT, directory: Path) -> Details:
        """Write the value into an empty folder and return the numbers for the manifest."""

    @abstractmethod
    def read(self, directory: Path, *, lazy: bool = False) -> Any:
        """Read what `write` wrote."""

    @abstractmethod
    def version_of(self, value: ValueT) -> str:
        """Content hash of the value."""


@dataclass(frozen=True)
class TableFormat(OutputFormat[Table]):
    """A table as parquet; `key` columns are unique together."""

    schema: Schema
    key: Sequence[str] = ()
    exports: Mapping[str, str] = field(default_factory=dict)

    @property
    def columns(self) -> Schema:
        return self.schema

    def check(self, name: str, value: Table) -> None:
        check_table(name, value, self.schema, self.key)

    def write(self, value: Table, directory: Path) -> Details:
        write_table(value, directory / TABLE)
        return {"rows": height(value)}

    def read(self, directory: Path, *, lazy: bool = False) -> Table:
        return pl.scan_parquet(directory / TABLE) if lazy else pl.read_parquet(directory / TABLE)

    def version_of(self, value: Table) -> str:
        return table_version(value)


@dataclass(frozen=True)
class RerankedFormat(TableFormat):
    """The reranked lists: a table, and the same as JSON Lines for people and other tools."""

    @property
    def columns(self) -> Schema:
        return schemas.RERANKED_BY_SIGNALS

    def check(self, name: str, value: Table) -> None:
        by_signals = "signals" in value.lazy().collect_schema()
        check_table(name, value, schemas.RERANKED_BY_SIGNALS if by_signals else self.schema, self.key)
        check_reranked(name, value)

    def write(self, value: Table, directory: Path) -> Details:
        write_reranked_lines(value, directory / RERANKED_LINES)
        return super().write(value, directory)


@dataclass(frozen=True)
class RerankMetrics:
    """Metrics of one dataset: the table, who was counted, the data versions behind it, and each user's places."""

    table: pl.DataFrame
    coverage: Coverage
    fingerprints: dict[str, str]
    places: pl.DataFrame

    def document(self) -> dict[str, Any]:
        """Content of `metrics.json`."""
        scenarios = {name[0]: _scenario(rows) for name, rows in self.table.group_by("scenario", maintain_order=True)}
        return {
            **scenarios.pop("all", {"users": 0}),
            "scenarios": scenarios,
            "coverage": self.coverage,
            "fingerprints": self.fingerprints,
        }


@dataclass(frozen=True)
class MetricsFormat(OutputFormat[RerankMetrics]):
    """Metrics as a table, read by the report, and as `metrics.json`."""

    exports: Mapping[str, str]

    @property
    def columns(self) -> Schema:
        return schemas.METRICS

    def check(self, name: str, value: RerankMetrics) -> None:
        check_table(name, value.table, schemas.METRICS, ["scenario", "metric", "k"])

    def write(self, value: RerankMetrics, directory: Path) -> Details:
        value.table.write_parquet(directory / TABLE)
        value.places.write_parquet(directory / PLACES)
        (directory / METRICS_JSON).write_bytes(msgspec.json.format(msgspec.json.encode(value.document())) + b"\n")
        return {"rows": value.table.height}

    def read(self, directory: Path, *, lazy: bool = False) -> pl.DataFrame:
        return pl.read_parquet(directory / TABLE)

    def version_of(self, value: RerankMetrics) -> str:
        return table_version(value.table)


@dataclass(frozen=True)
class EmbeddingsFormat(OutputFormat[VectorTable]):
    """Vectors and their index."""

    index_schema: Schema
    index_key: Sequence[str]
    exports: Mapping[str, str] = field(default_factory=dict)

    @property
    def columns(self) -> Schema:
        return self.index_schema

    def check(self, name: str, value: VectorTable) -> None:
        check_table(name, value.index, self.index_schema, self.index_key)
        check_embeddings(name, value)

    def write(self, value: VectorTable, directory: Path) -> Details:
        return write_embeddings(directory, value)

    def read(self, directory: Path, *, lazy: bool = False) -> VectorTable:
        return read_embeddings(directory)

    def version_of(self, value: VectorTable) -> str:
        return embeddings_version(value, table_version(value.index))


class SavableEncoder(Protocol):
    """An encoder that training made: what it is, and how it writes itself as a sentence-transformers directory."""

    info: EncoderInfo

    def check(self) -> None:
        """Raise ContractError if it must not be published."""

    def save(self, directory: Path) -> None:
        """Write all files but `encoder.json`."""

    def cost(self) -> Mapping[str, float]:
        """What making it took; differs from run to run, so it stands in the manifest and in no file."""


@dataclass(frozen=True)
class EncoderFormat(OutputFormat[SavableEncoder]):
    """A sentence-transformers directory; it is read as a handle, without torch."""

    exports: Mapping[str, str]

    def check(self, name: str, value: SavableEncoder) -> None:
        value.check()

    def write(self, value: SavableEncoder, directory: Path) -> Details:
        value.save(directory)
        write_info(directory, value.info)
        written = open_encoder(directory)
        written.head("query")
        written.head("document")
        details: Details = msgspec.to_builtins(written.info)
        return details | dict(value.cost())

    def read(self, directory: Path, *, lazy: bool = False) -> EncoderDirectory:
        return open_encoder(directory)

    def version_of(self, value: SavableEncoder) -> str:
        return value.info.fingerprint


ORDERS = tuple(name for name in schemas.PLACES if name != "user_id")
LIFTS = {
    "lift": ("lift_low", "lift_high"),
    "personal_lift": ("personal_low", "personal_high"),
    "persona_lift": ("persona_low", "persona_high"),
}


def _scenario(rows: pl.DataFrame) -> dict[str, Any]:
    """The metrics of a scenario; those beside HIT, MRR and NDCG under `more`."""
    counts = ("users", "ceiling", "moved_up", "moved_down", "unmoved")
    by_place = pl.col("metric").is_in(METRIC_NAMES)
    more = rows.filter(~by_place)
    told = {name: rows[name][0] for name in counts} | _columns(rows.filter(by_place))
    return told | ({"more": _columns(more)} if more.height else {})


def _columns(rows: pl.DataFrame) -> dict[str, Any]:
    """Values of each order and lift, by the name of the metric."""
    names = [f"{metric}@{k}" for metric, k in rows.select("metric", "k").rows()]
    told = [column for column in (*ORDERS, *LIFTS, "lift_p") if rows[column].null_count() < rows.height]
    values = {column: _by_name(names, rows[column].to_list()) for column in told}
    intervals = {
        f"{lift}_interval": _by_name(names, [None if None in row else list(row) for row in rows.select(ends).rows()])
        for lift, ends in LIFTS.items()
        if lift in told
    }
    return values | intervals


def _by_name(names: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    """Values by the name of their metric, those that there are."""
    return {name: value for name, value in zip(names, values, strict=True) if value is not None}
