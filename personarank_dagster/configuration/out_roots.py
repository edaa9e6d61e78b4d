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


@dataclass(frozen=True)
class Override:
    """Where the outputs of all datasets go: `<out_root>/<dataset>`, each dataset's own `out_root` where it is empty.

    `work_dir` has what cannot lie in an object store, `<work_dir>/<dataset>`; without it the dataset's own, else
    `outputs` in the `default_work_dir`.
    """

    out_root: str = ""
    work_dir: str = ""
    default_work_dir: Path = Path("outputs")

    @classmethod
    def of_environment(cls) -> "Override":
        """What $PERSONARANK_OUT_ROOT and $PERSONARANK_WORK_DIR say."""
        return cls(os.environ.get(OUT_ROOT_VARIABLE) or "", os.environ.get(WORK_DIR_VARIABLE) or "")


def out_root_of(data_path: Path, override: Override) -> OutRoot:
    """Where the outputs of a dataset go. Raises ConfigError if another dataset has the same place."""
    own = _out_root(data_path, override)
    for other in _others(data_path, override, own):
        raise ConfigError(
            f"{data_path}: out_root must be a place of its own, got {own.bucket or own.folder}, which {other} has "
            "too; give one of them another"
        )
    return own


def _others(data_path: Path, override: Override, own: OutRoot) -> Iterator[Path]:
    """Files of other datasets with a place of this one."""
    known = _files_by_place(data_path.parents[1], override)
    for path in sorted({path for place in own.places for path in known.get(place, [])} - {data_path}):
        # What was read of it once need not hold any more.
        with suppress(ConfigError, msgspec.ValidationError):
            if _out_root(path, override).places & own.places:
                yield path


# With ten thousand datasets a second, so once a process.
@lru_cache(maxsize=2)
def _files_by_place(folder: Path, override: Override) -> dict[str, list[Path]]:
    """The data.yaml of every dataset that can be read, by its places."""
    files = defaultdict(list)
    for path in sorted(folder.glob("[!.]*/data.yaml")):
        with suppress(ConfigError, msgspec.ValidationError):
            for place in _out_root(path, override).places:
                files[place].append(path)
    return files


def _out_root(data_path: Path, override: Override) -> OutRoot:
    values, shared = read_mapping(data_path), override.out_root
    place = f"{shared.rstrip('/')}/{data_path.parent.name}" if shared else values.get("out_root")
    if is_address(place):
        return OutRoot(_work_dir(data_path, values.get("work_dir"), override), place)
    return OutRoot(Path(str(place)).absolute() if shared else relative_path(data_path, place))


def _work_dir(data_path: Path, configured: object, override: Override) -> Path:
    """Folder for what cannot lie in an object store."""
    name = data_path.parent.name
    if override.work_dir:
        return Path(override.work_dir).absolute() / name
    return relative_path(data_path, configured) if configured else override.default_work_dir.absolute() / name


def shared_out_root(datasets: Path, override: Override | None = None) -> OutRoot:
    """Where outputs go that belong to no dataset: the `out_root` of all, else `outputs` beside the datasets' folder.

    It stays where it is, whichever datasets there are. Each folder of datasets has its own: `<that>/<folder>` where
    it is not called configs.
    """
    override = override or Override.of_environment()
    shared = override.out_root
    own = [] if datasets.name == USUAL_NAME else [datasets.name]
    if is_address(shared):
        work_dir = Path(override.work_dir or override.default_work_dir).absolute()
        return OutRoot(work_dir.joinpath(*own), "/".join([shared.rstrip("/"), *own]))
    return OutRoot((Path(shared).absolute() if shared else datasets.parent / "outputs").joinpath(*own))
