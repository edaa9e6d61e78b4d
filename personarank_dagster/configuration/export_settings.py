"""`export.yaml`: where published lists are handed over to; without the file, or an entry, nowhere."""

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from personarank_dagster.configuration.out_roots import is_address
from personarank_dagster.configuration.settings import PositiveInt
from personarank_dagster.configuration.strict_yaml import load_yaml, relative_path
from personarank_dagster.core.errors import ConfigError

RedisUrl = Annotated[
    str, Meta(pattern="^(redis|rediss|unix)://", description="an address like redis://127.0.0.1:6379/0")
]
KeyPrefix = Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{1,64}$", description="letters, digits, _ and -")]
Place = Annotated[str, Meta(min_length=1, description="the path of a folder, or an address like s3://bucket/prefix")]


class RedisExport(msgspec.Struct, frozen=True, kw_only=True):
    """Lists in Redis or Valkey; the password comes from the environment."""

    url: RedisUrl
    prefix: KeyPrefix = "personarank"
    places: PositiveInt = 100
    ttl_days: PositiveInt = 30
    keep: PositiveInt = 2


class ParquetExport(msgspec.Struct, frozen=True, kw_only=True):
    """Lists as parquet for a warehouse."""

    folder: Place
    keep: PositiveInt = 3


class ExportConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`export.yaml`."""

    redis: RedisExport | None = None
    parquet: ParquetExport | None = None


def load_export(path: Path) -> ExportConfig:
    """Read export.yaml; without one nothing is handed over. Raises ConfigError."""
    if not path.exists():
        return ExportConfig()
    export = load_yaml(path, ExportConfig)
    if export.redis and urlsplit(export.redis.url).password is not None:
        raise ConfigError(
            f"{path}: redis.url must hold no password, which would be published with every version; "
            "set PERSONARANK_REDIS_PASSWORD in the environment"
        )
    if export.parquet and not is_address(export.parquet.folder):
        folder = str(relative_path(path, export.parquet.folder))
        return msgspec.structs.replace(export, parquet=msgspec.structs.replace(export.parquet, folder=folder))
    return export
