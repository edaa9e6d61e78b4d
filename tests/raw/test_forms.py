"""Files in another form are named, and the command that the message gives makes a file that can be read."""

import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from personarank_dagster.core.errors import InputError
from personarank_dagster.raw import ingestion
from personarank_dagster.raw.bad_lines import ReadRules
from tests.raw.files import lines

ROWS = [{"user_id": f"u{n}", "item_id": "i"} for n in range(3)]
TEXT = "".join(json.dumps(row) + "\n" for row in ROWS)
FORMS: dict[str, bytes] = {
    "gzip": gzip.compress(TEXT.encode()),
    "utf-16": TEXT.encode("utf-16"),
    "utf-16-be": TEXT.encode("utf-16-be"),
    "array": json.dumps(ROWS, indent=1).encode(),
    "array in one line": json.dumps(ROWS).encode(),
    "array, an object a line": ("[\n" + ",\n".join(json.dumps(row) for row in ROWS) + "\n]\n").encode(),
    "literals": "".join(f"{row}\n" for row in ROWS).encode(),
    "csv": b"user_id,item_id\n" + b"".join(f"{row['user_id']},i\n".encode() for row in ROWS),
    "tsv": b"user_id\titem_id\n" + b"".join(f"{row['user_id']}\ti\n".encode() for row in ROWS),
    "objects": "".join(json.dumps(row, indent=1) + "\n" for row in ROWS).encode(),
}
TOOLS = {"objects": "jq", "utf-16": "iconv", "utf-16-be": "iconv"}


def error_of(path: Path, rules: ReadRules = ingestion.FAIL) -> str:
    with pytest.raises(InputError) as error:
        ingestion.read_ground_truth(path, rules)
    return str(error.value)


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz"])
@pytest.mark.parametrize("form", FORMS)
def test_the_command_of_the_message_makes_lines_of_json(tmp_path: Path, form: str, ending: str) -> None:
    if shutil.which(TOOLS.get(form, "cat")) is None:
        pytest.skip(f"{TOOLS[form]} is not on this machine")
    path = tmp_path / f"a file's.{ending}"
    path.write_bytes(gzip.compress(FORMS[form]) if ending == "jsonl.gz" else FORMS[form])
    command = error_of(path).rpartition("data.yaml: ")[2]
    search = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(["bash", "-c", command], check=True, env={**os.environ, "PATH": search})
    table = ingestion.read_ground_truth(tmp_path / "a file's.lines.jsonl").frame
    assert table.rows() == [(row["user_id"], "i") for row in ROWS]


@pytest.mark.parametrize("on_bad_row", ["fail", "quarantine"])
def test_a_form_is_said_in_one_line_also_where_bad_lines_are_set_aside(tmp_path: Path, on_bad_row: Any) -> None:
    (tmp_path / "gt.jsonl").write_bytes(FORMS["array"])
    message = error_of(tmp_path / "gt.jsonl", ReadRules(on_bad_row=on_bad_row, max_bad_share=1.0))
    assert "gt.jsonl: expected lines of JSON, got one JSON array; convert it and name the new file" in message
    assert "\n" not in message


def test_an_array_in_one_long_line_is_an_array(tmp_path: Path) -> None:
    (tmp_path / "gt.jsonl").write_text("[" + TEXT.strip().replace("\n", ", ") + "]")
    assert "got one JSON array" in error_of(tmp_path / "gt.jsonl", ReadRules(max_line_bytes=10))


def test_a_first_line_that_looks_like_another_form_is_a_bad_line(tmp_path: Path) -> None:
    path = lines(tmp_path / "gt.jsonl", ["u", "i"], *ROWS)
    assert 'gt.jsonl line 1: expected an object, got ["u", "i"]' in error_of(path)


@pytest.mark.parametrize("ending", ["jsonl", "json", "JSONL", "Json.gz", "jsonl.GZ"])
def test_lines_of_json_may_have_every_common_ending(tmp_path: Path, ending: str) -> None:
    text = gzip.compress(TEXT.encode()) if ending.lower().endswith("gz") else TEXT.encode()
    (tmp_path / f"gt.{ending}").write_bytes(text)
    assert ingestion.read_ground_truth(tmp_path / f"gt.{ending}").read == 3
