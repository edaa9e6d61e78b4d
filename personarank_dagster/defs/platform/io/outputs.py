"""The outputs of one dataset: where they lie, in which format, and the links for people."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from personarank_dagster.core.aspects import SchemaName
from personarank_dagster.defs.platform.declarations import asset_names, declared
from personarank_dagster.defs.platform.io.formats import OutputFormat
from personarank_dagster.storage.bucket import bucket_path
from personarank_dagster.storage.disk import link
from personarank_dagster.storage.scratch import sweep_scratch
from personarank_dagster.storage.versions import VersionStore, check_writable
from personarank_dagster.vectors.vector_store import VectorStore


@dataclass(frozen=True)
class Outputs:
    """Outputs of a partition: a folder on this machine, and a bucket if the versions lie in one."""

    partition: str
    folder: Path
    bucket: str | None
    keep: int
    schema: SchemaName = "amazon"

    def versions(self, asset: str) -> VersionStore:
        """Versions of an asset."""
        if self.bucket is None:
            return VersionStore(self.folder / "versions", asset, self.partition)
        return VersionStore(
            bucket_path(self.bucket) / "versions", asset, self.partition, copies=self.folder / "copies"
        )

    def format(self, asset: str) -> OutputFormat[Any]:
        """Format of an asset's output."""
        return declared(asset).format(self.schema)

    def vectors(self, fingerprint: str) -> VectorStore:
        """Vectors of texts by one encoder."""
        return VectorStore(self.folder / "vectors", fingerprint)

    def refresh_links(self) -> None:
        """Point the links for people to the current versions; a kill after publishing can have left them behind."""
        for asset in asset_names(partitioned=True):
            exports = self.format(asset).exports
            if exports and (version := self.versions(asset).find_current()):
                for name, file in exports.items():
                    link(version.directory / file, self.folder / name)

    def sweep_staging(self, asset: str) -> None:
        """Remove what unfinished work left for an asset that is published now."""
        sweep_scratch(self.folder / "staging", only=asset)

    def check_writable(self) -> None:
        """Raise StorageError, with the reason, if outputs cannot be written."""
        check_writable(self.folder)
        if self.bucket is not None:
            check_writable(bucket_path(self.bucket))
