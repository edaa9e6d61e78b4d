"""Where the outputs of a dataset go: a folder, or an object store and a folder for what cannot lie there."""

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeGuard

import msgspec

from personarank_dagster.configuration.strict_yaml import read_mapping, relative_path
from personarank_dagster.core.errors import ConfigError

OUT_ROOT_VARIABLE = "PERSONARANK_OUT_ROOT"
WORK_DIR_VARIABLE = "PERSONARANK_WORK_DIR"

# Of a folder of datasets.
USUAL_NAME = "configs"

ADDRESS = re.compile(r"[a-z][a-z0-9+]*://.")


@dataclass(frozen=True)
class OutRoot:
    """The folder on this machine, and the address if the outputs lie in an object store."""

    folder: Path
    bucket: str | None = None

    @property
    def places(self) -> set[str]:
        """What belongs to one dataset alone."""
        return {os.path.realpath(self.folder), *([self.bucket.rstrip("/")] if self.bucket else [])}


def is_address(place: object) -> TypeGuard[str]:
    """Whether this names a place in an object store, such as s3://bucket/prefix, and not a folder."""
    return isinstance(place, str) and ADDRESS.match(place) is not None


def out_root_of(data_path: Path, override: Path | str | None = None) -> OutRoot:
    """Where the outputs of a dataset go: `<override>/<dataset>`, `$PERSONARANK_OUT_ROOT/<dataset>`, else `out_root`.

    Raises ConfigError if another dataset has the same place.
    """
    shared = str(override or os.environ.get(OUT_ROOT_VARIABLE) or "")
    own = _out_root(data_path, shared)
    for other in _others(data_path, shared, own):
        raise ConfigError(
            f"{data_path}: out_root must be a place of its own, got {own.bucket or own.folder}, which {other} has "
            "too; give one of them another"
        )
    return own


def _others(data_path: Path, shared: str, own: OutRoot) -> Iterator[Path]:
    """Files of other datasets with a place of this one."""
    known = _files_by_place(data_path.parents[1], shared)
    for path in sorted({path for place in own.places for path in known.get(place, [])} - {data_path}):
        # What was read of it once need not hold any more.
        with suppress(ConfigError, msgspec.ValidationError):
            if _out_root(path, shared).places & own.places:
                yield path


# With ten thousand datasets a second, so once a process.
@lru_cache(maxsize=2)
def _files_by_place(folder: Path, shared: str) -> dict[str, list[Path]]:
    """The data.yaml of every dataset that can be read, by its places."""
    files = defaultdict(list)
    for path in sorted(folder.glob("[!.]*/data.yaml")):
        with suppress(ConfigError, msgspec.ValidationError):
            for place in _out_root(path, shared).places:
                files[place].append(path)
    return files


def _out_root(data_path: Path, shared: str) -> OutRoot:
    values = read_mapping(data_path)
    place = f"{shared.rstrip('/')}/{data_path.parent.name}" if shared else values.get("out_root")
    if is_address(place):
        return OutRoot(_work_dir(data_path, values.get("work_dir")), place)
    return OutRoot(Path(str(place)).absolute() if shared else relative_path(data_path, place))


def _work_dir(data_path: Path, configured: object) -> Path:
    """Folder for what cannot lie in an object store: $PERSONARANK_WORK_DIR, work_dir, else ./outputs."""
    if shared := os.environ.get(WORK_DIR_VARIABLE):
        return Path(shared).absolute() / data_path.parent.name
    return relative_path(data_path, configured) if configured else Path("outputs").absolute() / data_path.parent.name


def shared_out_root(datasets: Path) -> OutRoot:
    """Where outputs go that belong to no dataset: $PERSONARANK_OUT_ROOT, else `outputs` beside the datasets' folder.

    It stays where it is, whichever datasets there are. Each folder of datasets has its own: `<that>/<folder>` where
    it is not called configs.
    """
    shared = os.environ.get(OUT_ROOT_VARIABLE)
    own = [] if datasets.name == USUAL_NAME else [datasets.name]
    if is_address(shared):
        work_dir = Path(os.environ.get(WORK_DIR_VARIABLE) or "outputs").absolute()
        return OutRoot(work_dir.joinpath(*own), "/".join([shared.rstrip("/"), *own]))
    return OutRoot((Path(shared).absolute() if shared else datasets.parent / "outputs").joinpath(*own))
