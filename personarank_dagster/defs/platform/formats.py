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
from personarank_dagster.ranking.metrics import Coverage
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

    def check(self, name: str, value: Table) -> None:
        super().check(name, value)
        check_reranked(name, value)

    def write(self, value: Table, directory: Path) -> Details:
        write_reranked_lines(value, directory / RERANKED_LINES)
        return super().write(value, directory)


@dataclass(frozen=True)
class RerankMetrics:
    """Metrics of one dataset: the table, who was counted, and the data versions behind it."""

    table: pl.DataFrame
    coverage: Coverage
    fingerprints: dict[str, str]

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


ORDERS = ("candidate", "reranked", "shuffled", "untrained", "popularity", "random")


def _scenario(rows: pl.DataFrame) -> dict[str, Any]:
    names = [f"{metric}@{k}" for metric, k in rows.select("metric", "k").rows()]
    orders = [order for order in ORDERS if rows[order].null_count() < rows.height]
    values = {column: dict(zip(names, rows[column], strict=True)) for column in (*orders, "lift", "personal_lift")}
    intervals = {
        f"{lift}_interval": dict(zip(names, map(list, rows.select(low, high).rows()), strict=True))
        for lift, low, high in (
            ("lift", "lift_low", "lift_high"),
            ("personal_lift", "personal_low", "personal_high"),
        )
    }
    counts = ("users", "ceiling", "moved_up", "moved_down", "unmoved")
    return {**{name: rows[name][0] for name in counts}, **values, **intervals}
