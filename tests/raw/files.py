"""Raw files for tests of reading."""

import gzip
import json
from pathlib import Path
from typing import Any

REVIEW = {"item_id": "i1", "rating": 5.0, "timestamp": 1_600_000_000_000, "summary": "A lamp", "extracted": {}}
PERSONA = {"ID": "P1", "Name": "n", "Description": "d", "Preference_Rationale": "r"}


def lines(path: Path, *rows: Any) -> Path:
    """A file with these lines, each given as an object or as its text."""
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path
