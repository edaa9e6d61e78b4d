"""The manifest of a version: what it is, what it was made from, what checks found, its files by size and sha256."""

from datetime import datetime
from typing import Any

import msgspec

from personarank_dagster.core.errors import StorageError, reason_of
from personarank_dagster.core.quantities import in_units

FORMAT_VERSION = 2
# Those of format 1 say neither settings nor lineage, and hold no verdict.
READABLE_FORMATS = (1, 2)
MANIFEST = "manifest.json"


class FileEntry(msgspec.Struct, frozen=True):
    """One file of a version."""

    path: str
    bytes: int
    sha256: str


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """What a version was made from: equal code, settings and inputs mean equal content.

    `inputs` are contents by name: data versions of upstream assets, hashes of raw files and models. `versions` names
    the upstream versions that were read, `lineage` the data version of every asset behind them.
    """

    code_version: str
    settings: dict[str, Any] = {}
    inputs: dict[str, str] = {}
    versions: dict[str, str] = {}
    lineage: dict[str, str] = {}


class Verdict(msgspec.Struct, frozen=True):
    """What a blocking check found of a version before it could become current."""

    check: str
    passed: bool
    numbers: dict[str, Any] = {}

    def __str__(self) -> str:
        return ", ".join([self.check, *(f"{name} {in_units(name, value)}" for name, value in self.numbers.items())])


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a version is; `details` are the numbers of its kind (rows, shape, fingerprints).

    `checks` are None where it was published before verdicts were part of a version.
    """

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
    checks: tuple[Verdict, ...] | None = None

    @property
    def refusal(self) -> str | None:
        """The checks that it failed, with their numbers; None if there is none."""
        return "; ".join(str(verdict) for verdict in self.checks or () if not verdict.passed) or None

    @property
    def accepted(self) -> bool:
        """Whether it was judged, and no check failed."""
        return self.checks is not None and self.refusal is None


def encode_manifest(manifest: Manifest) -> bytes:
    """A manifest as JSON that a person can read."""
    return msgspec.json.format(msgspec.json.encode(manifest))


def decode_manifest(content: bytes, place: object) -> Manifest:
    """Read a manifest; its format is checked first. Raises StorageError, with the place, for another or none."""
    try:
        format_version = msgspec.json.decode(content)["format_version"]
        if format_version not in READABLE_FORMATS:
            raise StorageError(
                f"{place}: format_version must be at most {FORMAT_VERSION}, got {format_version}; "
                "it was written by another release of personarank; use that one"
            )
        return msgspec.json.decode(content, type=Manifest)
    except (msgspec.MsgspecError, KeyError, TypeError) as error:
        raise StorageError(
            f"{place}: is not a readable manifest: {reason_of(error)}; `personarank rollback` goes to another version"
        ) from error
