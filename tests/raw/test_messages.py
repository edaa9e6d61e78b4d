"""Every error of reading raw files, in one file to look at: messages.txt.

After a change of a message run this test with PERSONARANK_MESSAGES=write, and read what it wrote.
"""

import gzip
import json
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from personarank_dagster.core.errors import InputError
from personarank_dagster.raw import ingestion
from personarank_dagster.raw.bad_lines import ReadRules
from tests.raw.files import PERSONA, REVIEW

MESSAGES = Path(__file__).with_name("messages.txt")
QUARANTINE = ReadRules(on_bad_row="quarantine", max_bad_share=0.1, max_line_bytes=1 << 20)
HISTORIES = partial(ingestion.read_histories, schema="amazon")
ASPECTS = partial(ingestion.read_aspects, schema="amazon")
SELECTIONS = partial(
    ingestion.read_selections, personas=pl.DataFrame({"item_id": ["i"], "unique_persona_id": ["i_P1"]})
)
Read = Callable[..., Any]
Case = tuple[Read, str, Any]


def review(**fields: Any) -> str:
    """The second of two lines of histories; a field of `...` is left out."""
    changed = {name: value for name, value in (REVIEW | fields).items() if value is not ...}
    row = {"user_id": "u", "reviews": [REVIEW, changed]}
    return f'{{"user_id": "u0", "reviews": []}}\n{json.dumps(row)}\n'


def score(text: str) -> str:
    good = '{"user_id": "u", "results": []}\n'
    return f'{good}{{"user_id": "u", "results": [{{"item_id": "a", "score": {text}}}]}}\n'


def truth(second: str) -> str:
    return f'{{"user_id": "u", "item_id": "i"}}\n{second}\n'


def candidates(**column: Any) -> pl.DataFrame:
    return pl.DataFrame({"user_id": ["u"], "results": [[{"item_id": "a", "score": 1.0}]]} | column)


PERSONAS_TWICE = [
    {"item_id": "X", "personas": [PERSONA | {"ID": "Y_P1"}]},
    {"item_id": "X_Y", "personas": [PERSONA]},
    {"item_id": "Z", "personas": [PERSONA]},
    {"item_id": "Z", "personas": [PERSONA | {"ID": "P2"}, PERSONA]},
]
SELECTED = {"target_item_id": "i", "selected_persona_id": "P1"}
GT = ingestion.read_ground_truth
CANDIDATES = ingestion.read_candidates

CASES: dict[str, Case] = {
    # A line.
    "no JSON": (HISTORIES, "h.jsonl", truth('{"user_id": "u", "reviews": [')),
    "null": (GT, "gt.jsonl", truth("null")),
    "a list": (GT, "gt.jsonl", truth('["u", "i"]')),
    "a field is missing": (GT, "gt.jsonl", truth('{"item_id": "i"}')),
    "an id is a number": (GT, "gt.jsonl", truth('{"user_id": 5, "item_id": "i"}')),
    "an id is empty": (GT, "gt.jsonl", truth('{"user_id": "", "item_id": "i"}')),
    "an id is null": (GT, "gt.jsonl", truth('{"user_id": null, "item_id": "i"}')),
    "no item id": (GT, "gt.jsonl", truth('{"user_id": "u"}')),
    "two item ids": (GT, "gt.jsonl", truth('{"user_id": "u", "item_id": "i", "asin": "j"}')),
    "a key twice": (GT, "gt.jsonl", truth('{"user_id": "u", "item_id": "i", "user_id": "v"}')),
    "nested too deep": (GT, "gt.jsonl", truth('{"user_id": "u", "item_id": "i", "x": ' + "[" * 10_000)),
    "a byte order mark": (GT, "gt.jsonl", "\ufeff" + truth("")),
    "a rating is text": (HISTORIES, "h.jsonl", review(rating="5")),
    "a rating is too large": (HISTORIES, "h.jsonl", review(rating=7)),
    "a rating is missing": (HISTORIES, "h.jsonl", review(rating=...)),
    "a review is of another user": (HISTORIES, "h.jsonl", review(user_id="v")),
    "a time is a word": (HISTORIES, "h.jsonl", review(timestamp="soon")),
    "a time is null": (HISTORIES, "h.jsonl", review(timestamp=None)),
    "a time is compact": (HISTORIES, "h.jsonl", review(timestamp="20230808120000Z")),
    "a time is a date as a number": (HISTORIES, "h.jsonl", review(timestamp=20230808)),
    "a time is too late": (HISTORIES, "h.jsonl", review(timestamp=10**17)),
    "aspects are a list": (HISTORIES, "h.jsonl", review(extracted=[])),
    "an aspect is a number": (HISTORIES, "h.jsonl", review(extracted={"usage_context": 1})),
    "text of aspects is no JSON": (HISTORIES, "h.jsonl", review(extracted="{")),
    "text of aspects has a number": (HISTORIES, "h.jsonl", review(extracted='{"usage_context": 1}')),
    "a score is NaN": (CANDIDATES, "c.jsonl", score("NaN")),
    "a score is infinite": (CANDIDATES, "c.jsonl", score("-Infinity")),
    "a score is too large": (CANDIDATES, "c.jsonl", score("1e999")),
    "half of a surrogate pair": (GT, "gt.jsonl", truth('{"user_id": "u", "item_id": "a\\ud800"}')),
    "half of a surrogate pair, then text": (GT, "gt.jsonl", truth('{"user_id": "\\udc00b", "item_id": "i"}')),
    "a score is null": (CANDIDATES, "c.jsonl", score("null")),
    "a persona id is another's": (
        ingestion.read_personas,
        "p.jsonl",
        json.dumps({"item_id": "i", "personas": [PERSONA | {"unique_persona_id": "j_P1"}]}),
    ),
    "a persona twice, and two with one full id": (
        ingestion.read_personas,
        "p.jsonl",
        "".join(json.dumps(row) + "\n" for row in PERSONAS_TWICE),
    ),
    "two forms of a selection": (
        SELECTIONS,
        "s.jsonl",
        json.dumps({"user_id": "u", **SELECTED, "persona_selections": [SELECTED]}),
    ),
    "no form of a selection": (SELECTIONS, "s.jsonl", '{"user_id": "u"}'),
    "two forms of aspects": (
        ASPECTS,
        "a.jsonl",
        '{"item_id": "i", "aspects": [{"user_id": "u"}], "review": {"user_id": "u"}}',
    ),
    "no form of aspects": (ASPECTS, "a.jsonl", '{"item_id": "i"}'),
    # A file.
    "the same in every line": (GT, "gt.jsonl", '{"item_id": "i"}\n' * 3),
    "too many bad lines": (partial(GT, rules=QUARANTINE), "gt.jsonl", truth("[]")),
    "a line too long": (partial(GT, rules=QUARANTINE), "gt.jsonl", truth(" " * (2 << 20))),
    "empty": (GT, "gt.jsonl", ""),
    "another ending": (GT, "gt.csv", "user_id,item_id\nu,i\n"),
    "no gzip": (GT, "gt.jsonl.gz", truth("")),
    "half a gzip": (GT, "gt.jsonl.gz", gzip.compress(os.urandom(9_000))[:-20]),
    "gzip": (GT, "gt.jsonl", gzip.compress(truth("").encode())),
    "zstd": (GT, "gt.jsonl", b"\x28\xb5\x2f\xfd\x00"),
    "xz": (GT, "gt.jsonl", b"\xfd7zXZ\x00\x00"),
    "bzip2": (GT, "gt.jsonl", b"BZh91AY"),
    "lz4": (GT, "gt.jsonl", b"\x04\x22\x4d\x18"),
    "zip": (GT, "gt.jsonl", b"PK\x03\x04"),
    "UTF-16": (GT, "gt.jsonl", truth("").encode("utf-16")),
    "UTF-16 without its mark": (GT, "gt.jsonl", truth("").encode("utf-16-le")),
    "UTF-32": (GT, "gt.jsonl", truth("").encode("utf-32")),
    "a pickle": (GT, "gt.jsonl", b"\x80\x04\x95\x00"),
    "Arrow": (GT, "gt.jsonl", b"ARROW1\x00\x00"),
    "Avro": (GT, "gt.jsonl", b"Obj\x01\x04"),
    "Git LFS": (GT, "gt.jsonl", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"),
    "a web page": (GT, "gt.jsonl", "\n<!DOCTYPE html>\n<html>\n"),
    "a JSON array": (GT, "gt.jsonl", '[\n {\n  "user_id": "u",\n  "item_id": "i"\n }\n]'),
    "objects over several lines": (GT, "gt.jsonl", '{\n "user_id": "u",\n "item_id": "i"\n}\n'),
    "Python literals": (GT, "gt.jsonl", "{'user_id': 'u', 'item_id': 'i'}\n"),
    "CSV": (GT, "gt.jsonl", "user_id,item_id\nu,i\n"),
    "an array in gzip": (GT, "gt.jsonl.gz", gzip.compress(b'[{"user_id": "u", "item_id": "i"}]')),
    # A parquet file.
    "no parquet": (GT, "gt.parquet", truth("")),
    "half a parquet": (GT, "gt.parquet", b"PAR1 and nothing more"),
    "integer ids": (GT, "gt.parquet", pl.DataFrame({"user_id": [1], "item_id": ["i"]})),
    "bytes for text": (GT, "gt.parquet", pl.DataFrame({"user_id": [b"u"], "item_id": ["i"]})),
    "a column is missing": (GT, "gt.parquet", pl.DataFrame({"user": ["u"], "item_id": ["i"]})),
    "no column that is read": (ingestion.read_item_summaries, "s.parquet", pl.DataFrame({"x": [1]})),
    "scores are text": (CANDIDATES, "c.parquet", candidates(results=[[{"item_id": "a", "score": "1.0"}]])),
    "scores are missing": (CANDIDATES, "c.parquet", candidates(results=[[{"item_id": "a"}]])),
    "a list for a struct": (CANDIDATES, "c.parquet", candidates(results=[[["a", "1.0"]]])),
    "a struct for a list": (CANDIDATES, "c.parquet", candidates(results=[{"item_id": "a", "score": 1.0}])),
    "a NaN": (CANDIDATES, "c.parquet", candidates(results=[[{"item_id": "a", "score": float("nan")}]])),
    "times are true or false": (
        HISTORIES,
        "h.parquet",
        pl.DataFrame({"user_id": ["u"], "reviews": [[{"item_id": "i", "rating": 1.0, "timestamp": True}]]}),
    ),
    "it unpacks to too much": (GT, "gt.parquet", pl.DataFrame({"user_id": ["u"], "item_id": ["x" * (65 << 20)]})),
    "a row too long": (
        partial(GT, rules=QUARANTINE),
        "gt.parquet",
        pl.DataFrame({"user_id": ["u"], "item_id": ["x" * (2 << 20)]}),
    ),
    # A path.
    "no file": (GT, "gone.jsonl", None),
    "a pattern that matches nothing": (GT, "part-*.jsonl", None),
    "an empty folder": (GT, "parts", {}),
    "a folder in a folder": (GT, "parts", {"year": {}}),
    "a folder with another file": (GT, "parts", {"a.jsonl": truth(""), "readme.md": ""}),
    "a bad line in a part": (GT, "parts", {"a.jsonl": truth(""), "b.jsonl": truth("null")}),
}


def write(path: Path, content: Any) -> Path:
    if isinstance(content, dict):
        path.mkdir()
        for name, inner in content.items():
            write(path / name, inner)
    elif isinstance(content, pl.DataFrame):
        content.write_parquet(path)
    elif content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def message(case: Case, folder: Path) -> str:
    read, name, content = case
    path = write(folder / name, content)
    with pytest.raises(InputError) as error:
        read(path) if "rules" in getattr(read, "keywords", {}) else read(path, rules=ReadRules())
    return str(error.value).replace(str(folder), "DATA")


@pytest.fixture(scope="module")
def messages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {name: message(case, tmp_path_factory.mktemp("case")) for name, case in CASES.items()}


def test_messages_are_those_that_were_looked_at(messages: dict[str, str]) -> None:
    written = "".join(f"{name}\n  {text}\n\n" for name, text in messages.items())
    if os.environ.get("PERSONARANK_MESSAGES") == "write":
        MESSAGES.write_text(written)
    assert MESSAGES.read_text() == written


@pytest.mark.parametrize("name", CASES)
def test_a_message_names_its_file_says_nothing_twice_and_names_no_library(
    messages: dict[str, str], name: str
) -> None:
    for line in messages[name].splitlines():
        assert line.lstrip().startswith(f"DATA/{CASES[name][1]}")
        assert not re.search(r"got [^;]*\bgot |expected [^;]*\bexpected |`|msgspec|polars\.|pyo3", line)
        assert ": " in line
