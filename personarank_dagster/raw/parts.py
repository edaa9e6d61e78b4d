"""The files behind a path of data.yaml: one file, a folder of parts, or a pattern, in the order of their names.

A list has its files in its own order.
"""

import glob
from itertools import chain
from pathlib import Path

from personarank_dagster.core.file_lists import FileList
from personarank_dagster.storage.disk import content_hash
from personarank_dagster.storage.known_hashes import file_version

ENDINGS = (".jsonl", ".json", ".jsonl.gz", ".json.gz", ".parquet")

# Notes of the writer, such as Spark's _SUCCESS and .part-00000.crc.
NOTES = ("_", ".")


def parts_of(path: Path) -> list[Path]:
    """The file itself, the files of a folder, what a pattern matches, or those of a list; none if nothing is there.

    Of a list with an entry that is not there, none.
    """
    if isinstance(path, FileList):
        found = [parts_of(one) for one in path.paths]
        return list(chain.from_iterable(found)) if all(found) else []
    if path.is_dir():
        return sorted(part for part in path.iterdir() if not part.name.startswith(NOTES))
    if path.exists() or not glob.has_magic(str(path)):
        return [path] if path.exists() else []
    return sorted(Path(part) for part in glob.glob(str(path)) if not Path(part).name.startswith(NOTES))


def parts_version(path: Path, remembered: Path) -> str:
    """Content hash of all parts, in order; that of a single file is its own (see `file_version`)."""
    parts = parts_of(path)
    if parts in ([], [path]):
        return file_version(path, remembered)
    return content_hash(*(file_version(part, remembered) for part in parts))
