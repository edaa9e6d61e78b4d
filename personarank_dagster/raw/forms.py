"""What a file is by its first bytes, and the command that makes lines of JSON of it."""

import gzip
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from personarank_dagster.core.errors import InputError

HEAD_BYTES = 4096


@dataclass(frozen=True)
class Form:
    """A form that a file may have instead of lines of JSON.

    The remedy is a template: {path} is the file, {content} a command that prints it, unpacked if its name says gzip,
    {lines} and {parquet} a file beside it to make.
    """

    name: str
    remedy: str
    begins: tuple[bytes, ...] = ()


CONVERT = "convert it and name the new file in data.yaml: "
ROWS_OF_ARRAY = "import json, sys; [print(json.dumps(row)) for row in json.load(sys.stdin)]"
ROWS_OF_LITERALS = "import ast, json, sys; [print(json.dumps(ast.literal_eval(line))) for line in sys.stdin]"
ROWS_OF_TABLE = "import sys, polars as pl; pl.read_{}(sys.argv[1]).write_ndjson(sys.argv[2])"
ROWS_OF_CSV = (
    "import sys, polars as pl; "
    "pl.read_csv(sys.argv[1], separator=sys.argv[3], infer_schema=False).write_ndjson(sys.argv[2])"
)


def _python(code: str) -> str:
    return shlex.join(["python", "-c", code])


GZIP = Form("a gzip file", CONVERT + "{content} | gzip -dc > {lines}", (b"\x1f\x8b",))
PARQUET = Form("a parquet file", CONVERT + "mv {path} {parquet}", (b"PAR1",))
BINARY_FORMS = (
    GZIP,
    PARQUET,
    Form("a zstd file", CONVERT + "{content} | zstd -dc > {lines}", (b"\x28\xb5\x2f\xfd",)),
    Form("an xz file", CONVERT + "{content} | xz -dc > {lines}", (b"\xfd7zXZ\x00",)),
    Form("a bzip2 file", CONVERT + "{content} | bzip2 -dc > {lines}", (b"BZh",)),
    Form("an lz4 file", CONVERT + "{content} | lz4 -dc > {lines}", (b"\x04\x22\x4d\x18",)),
    Form("a zip archive", CONVERT + "unzip -p {path} > {lines}", (b"PK\x03\x04",)),
    Form(
        "UTF-32 text", CONVERT + "{content} | iconv -f UTF-32 -t UTF-8 > {lines}", (b"\xff\xfe\0\0", b"\0\0\xfe\xff")
    ),
    Form("UTF-16 text", CONVERT + "{content} | iconv -f UTF-16 -t UTF-8 > {lines}", (b"\xff\xfe", b"\xfe\xff")),
    Form("UTF-16 text", CONVERT + "{content} | iconv -f UTF-16LE -t UTF-8 > {lines}", (b"{\0",)),
    Form("UTF-16 text", CONVERT + "{content} | iconv -f UTF-16BE -t UTF-8 > {lines}", (b"\0{",)),
    Form(
        "a pickle, which is never opened, since it can run code",
        "where you trust it, write it anew, with pandas: read_pickle(…).to_json(…, orient='records', lines=True)",
        tuple(bytes([0x80, protocol]) for protocol in range(2, 6)),
    ),
    Form("an Arrow file", CONVERT + _python(ROWS_OF_TABLE.format("ipc")) + " {path} {lines}", (b"ARROW1",)),
    Form("an Avro file", CONVERT + _python(ROWS_OF_TABLE.format("avro")) + " {path} {lines}", (b"Obj\x01",)),
    Form("a pointer of Git LFS", "fetch the file itself: git lfs pull", (b"version https://git-lfs",)),
)
PAGE = Form("a web page (HTML or XML)", "download the file again: this is often a login or an error")
ARRAY = Form("one JSON array", CONVERT + "{content} | " + _python(ROWS_OF_ARRAY) + " > {lines}")
OBJECTS = Form("objects over several lines", CONVERT + "{content} | jq -c . > {lines}")
LITERALS = Form("Python literals, not JSON", CONVERT + "{content} | " + _python(ROWS_OF_LITERALS) + " > {lines}")


def first_bytes(path: Path) -> bytes:
    """The first bytes of a file's text, none of parquet. Raises InputError if the file is not what its name says."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    _check(path, head, GZIP if is_named_gzip(path) else PARQUET if is_named_parquet(path) else None)
    if is_named_parquet(path):
        return b""
    if not is_named_gzip(path):
        return head
    with gzip.open(path) as unpacked:
        head = unpacked.read(HEAD_BYTES)
    _check(path, head, None)
    return head


def is_named_gzip(path: Path) -> bool:
    """Whether the name says gzip."""
    return path.suffix.lower() == ".gz"


def is_named_parquet(path: Path) -> bool:
    """Whether the name says parquet."""
    return path.suffix.lower() == ".parquet"


def text_form(head: bytes) -> Form | None:
    """The form of a text most of whose lines are bad; None if it may be lines of JSON after all."""
    first_line = head.strip().partition(b"\n")[0].strip()
    if first_line.startswith(b"["):
        return ARRAY
    if first_line == b"{":
        return OBJECTS
    if re.match(rb"\{\s*u?'", first_line):
        return LITERALS
    mark = max(",;\t|", key=lambda one: first_line.count(one.encode()))
    if mark.encode() in first_line and not re.search(rb"[\x00-\x08{}]", first_line):
        return Form(
            "separated values (CSV)", f"{CONVERT}{_python(ROWS_OF_CSV)} {{path}} {{lines}} {shlex.quote(mark)}"
        )
    return None


def form_error(path: Path, form: Form, expected: str = "lines of JSON") -> InputError:
    """The error for a file that has another form."""
    place = shlex.quote(str(path))
    stem = path.name.split(".")[0]
    remedy = form.remedy.format(
        path=place,
        content=f"{'gzip -dc' if is_named_gzip(path) else 'cat'} {place}",
        lines=shlex.quote(str(path.with_name(f"{stem}.lines.jsonl"))),
        parquet=shlex.quote(str(path.with_name(f"{stem}.parquet"))),
    )
    return InputError(f"{path}: expected {expected}, got {form.name}; {remedy}")


def _check(path: Path, head: bytes, expected: Form | None) -> None:
    if not head or (expected and head.startswith(expected.begins)):
        return
    found = next((form for form in BINARY_FORMS if head.startswith(form.begins)), None)
    if re.match(rb"\s*<(!doctype html|html|\?xml)", head, re.IGNORECASE):
        found = PAGE
    name = expected.name if expected else "lines of JSON"
    if found:
        raise form_error(path, found, name)
    if expected:
        remedy = "give it the ending of what it holds: .jsonl for lines of JSON"
        raise InputError(f"{path}: expected {name}, got {'text' if head.isascii() else 'other bytes'}; {remedy}")
