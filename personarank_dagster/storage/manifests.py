"""The manifest of a version: what it is, what it was made from, and every file by size and sha256."""

from datetime import datetime
from typing import Any

import msgspec

from personarank_dagster.core.errors import StorageError

FORMAT_VERSION = 1
MANIFEST = "manifest.json"


class FileEntry(msgspec.Struct, frozen=True):
    """One file of a version."""

    path: str
    bytes: int
    sha256: str


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """What a version was made from: equal provenance means equal content."""

    code_version: str
    config_hash: str
    inputs: dict[str, str]


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a version is; `details` are the numbers of its kind (rows, shape, fingerprints)."""

    format_version: int
    asset: str
    partition: str
    version: str
    created: datetime
    run_id: str
    data_version: str
    provenance: Provenance
    details: dict[str, Any]
    files: list[FileEntry]


def encode_manifest(manifest: Manifest) -> bytes:
    """A manifest as JSON that a person can read."""
    return msgspec.json.format(msgspec.json.encode(manifest))


def decode_manifest(content: bytes, place: object) -> Manifest:
    """Read a manifest; its format is checked first. Raises StorageError, with the place, for another or none."""
    try:
        format_version = msgspec.json.decode(content)["format_version"]
        if format_version != FORMAT_VERSION:
            raise StorageError(
                f"{place}: format_version must be {FORMAT_VERSION}, got {format_version}; "
                "it was written by another release of personarank"
            )
        return msgspec.json.decode(content, type=Manifest)
    except (msgspec.MsgspecError, KeyError, TypeError) as error:
        raise StorageError(f"{place}: is not a readable manifest: {error}") from error
