"""The raw files of one dataset, read under the rules of its data.yaml."""

from collections.abc import Callable, Mapping
from typing import Any

import polars as pl

from personarank_dagster.configuration.settings import DataConfig
from personarank_dagster.raw.bad_lines import BadLine, ReadRules
from personarank_dagster.raw.ingestion import Ingested


class RawFiles:
    """Reads configured files; remembers of all of them the rows read, bad lines and what was left out."""

    def __init__(self, data: DataConfig) -> None:
        self.data = data
        self.bad_lines: list[BadLine] = []
        self.rows_read: dict[str, int] = {}
        self.left_out: dict[str, Mapping[str, int]] = {}
        self.rules = ReadRules(
            on_bad_row=data.on_bad_row,
            max_bad_share=data.max_bad_share,
            max_line_bytes=data.max_line_mb << 20,
            max_gzip_ratio=data.max_gzip_ratio,
        )

    def read(self, key: str, reader: Callable[..., Ingested], **options: Any) -> Ingested:
        """Read the file that data.yaml names by this key."""
        ingested = reader(self.data.raw_files[key], rules=self.rules, **options)
        self.bad_lines += ingested.bad_lines
        self.rows_read[key] = ingested.read
        self.left_out[key] = ingested.left_out
        return ingested

    def optional(self, key: str, reader: Callable[..., Ingested], **options: Any) -> pl.DataFrame | None:
        """Table of a file that need not be configured."""
        return self.read(key, reader, **options).frame if key in self.data.raw_files else None
