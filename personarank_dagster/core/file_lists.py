"""Several files that are read as one."""

from collections.abc import Sequence
from pathlib import Path

# Marks a rule of a path in whose place a list may stand.
SEVERAL = "several"


class FileList(type(Path())):  # type: ignore[misc]
    """A path that stands for several, in their order; as text, all of them. It is itself no file."""

    paths: tuple[Path, ...]

    def __new__(cls, paths: Sequence[Path]) -> "FileList":
        """Paths of files, folders or patterns."""
        self: FileList = super().__new__(cls, ", ".join(map(str, paths)))
        self.paths = tuple(paths)
        return self
