"""Write a generated dataset as the files that the public pipeline names, one folder per schema."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from gzip import GzipFile
from io import BufferedIOBase, BufferedWriter
from pathlib import Path

import msgspec

from personarank_dagster.core.aspects import SchemaName
from personarank_dagster.sample.generator import SampleDataset, SampleUser
from personarank_dagster.sample.items import Row

USER_FILES = ("3.5_history_loo", "4_selected_personas", "candidate", "gt", "review")
ITEM_FILES = ("2_summary", "3.5_persona_with_summary", "2.5_grouped")
SCHEMAS: tuple[SchemaName, ...] = ("amazon", "yelp")


def write_sample_files(
    out_dir: Path, *, num_users: int, seed: int, schemas: Sequence[SchemaName] = SCHEMAS
) -> list[Path]:
    """Write `<out_dir>/<schema>/<name>.jsonl.gz` for every file of every schema and return the paths.

    A file appears under its name only when it is complete; equal arguments give equal bytes.
    """
    return [
        path
        for schema in schemas
        for path in write_dataset_files(Path(out_dir) / schema, schema, num_users=num_users, seed=seed)
    ]


def write_dataset_files(folder: Path, schema: SchemaName, *, num_users: int, seed: int) -> list[Path]:
    """Write the files of one schema into a folder."""
    dataset = SampleDataset(schema, num_users, seed)
    folder.mkdir(parents=True, exist_ok=True)
    return _write_item_files(folder, dataset) + _write_user_files(folder, dataset.users())


def _write_item_files(folder: Path, dataset: SampleDataset) -> list[Path]:
    rows = (dataset.summaries(), dataset.personas(), dataset.grouped())
    paths = [_file_path(folder, name) for name in ITEM_FILES]
    for path, its_rows in zip(paths, rows, strict=True):
        with new_gzip(path) as file:
            write_rows(file, its_rows)
    return paths


def _write_user_files(folder: Path, users: Iterable[SampleUser]) -> list[Path]:
    """Write the five files with rows of users side by side, in one pass over the users."""
    paths = [_file_path(folder, name) for name in USER_FILES]
    with ExitStack() as stack:
        files = [stack.enter_context(new_gzip(path)) for path in paths]
        for user in users:
            for file, rows in zip(files, _rows_by_file(user), strict=True):
                write_rows(file, rows)
    return paths


def _rows_by_file(user: SampleUser) -> tuple[list[Row], ...]:
    """A user's rows in the order of `USER_FILES`."""
    history = [user.history] if user.history is not None else []
    candidates = [user.candidates] if user.candidates is not None else []
    return history, user.selections, candidates, [user.ground_truth], user.reviews


def _file_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.jsonl.gz"


def write_rows(file: BufferedIOBase, rows: Iterable[Row]) -> None:
    """Write a JSON object a line."""
    for row in rows:
        file.write(msgspec.json.encode(row) + b"\n")


@contextmanager
def new_gzip(path: Path) -> Iterator[BufferedIOBase]:
    """Open a temporary sibling that takes the place of `path` if the block succeeds, and vanishes if not.

    No name and no time go into the gzip header, so that equal rows give equal bytes.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as raw:
            packed = GzipFile(filename="", mode="wb", compresslevel=6, fileobj=raw, mtime=0)
            # Gathered, because Python's gzip is slow for small writes; closing the buffer closes the gzip.
            with BufferedWriter(packed, 1 << 20) as file:
                yield file
            raw.flush()
            os.fsync(raw.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise
