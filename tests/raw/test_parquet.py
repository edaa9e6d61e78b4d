"""Parquet files: exact numbers and times, types that are named, and limits before anything is decoded."""

import base64
import os
import random
import re
import subprocess
import sys
import zlib
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from personarank_dagster.core.errors import InputError
from personarank_dagster.raw import ingestion
from personarank_dagster.raw.bad_lines import ReadRules
from personarank_dagster.raw.parquet.pages import unpacked_bytes
from tests.raw.files import REVIEW

NAMES = {"user_id", "item_id"}
TOO_MUCH = r"gt\.parquet: unpacks to more than max_gzip_ratio 200 times its size; raise the limit"

# 1,000 times the same text of 1 MB, by pyarrow as DELTA_BYTE_ARRAY with zstd: 446 bytes.
DELTA = (
    "c-nQ5KTN_v6vn?hnnGejiOE$i>CizM20$>;i9t6_3?ar{2-e8J9}6g(m+0UoBa@qpyQ{NfHx~y-<K*CELh!XBxcHKnyZ7DqyS#T--QF(=h}()"
    "N=R{!ARu{SrAp5X3sogB!0ks&Ffyo#x0|s^ZxXQ>kzE(_pv4~3krPPkWQ@G;zjLk^Jw6{1Q5Jn17sgz>V>4l((WR5K$0Wdg#21Ul9hL4G}Qsgh"
    "M2TNmK;w1f-jTDALljRMh^<Lw|Yt@AYVPtqZKInP=Ve=@1y|BX{t=acl3(X2lY0I1oTNpB<L(U;#(3$mAv5wuuu1!-zaFj#8E?pXp;9n{!=hx0"
    "CdLZkbyX^=}MqoJg0<}iZWC=_+VU1$QI^DW|I`I1WMz@=<`+n!#IrIEpv(t9gHw(o=N#>~Au;F*gD*fCyJ@8wr"
)


def candidates(path: Path, scores: list[Any], dtype: Any = None) -> pl.DataFrame:
    frame = pl.DataFrame({"user_id": "u", "item_id": [f"i{n}" for n in range(len(scores))], "score": scores})
    frame = frame.with_columns(pl.col("score").cast(dtype)) if dtype else frame
    frame.group_by("user_id").agg(results=pl.struct("item_id", "score")).write_parquet(path)
    return ingestion.read_candidates(path).frame


def history(path: Path, **fields: Any) -> pl.DataFrame:
    row = {"user_id": "u", "reviews": [REVIEW | {"extracted": None} | fields]}
    pl.DataFrame([row]).write_parquet(path)
    return ingestion.read_histories(path, "amazon").frame


@given(st.lists(st.decimals(-(10**15), 10**15, places=5), min_size=1, max_size=9))
def test_decimal_scores_are_the_nearest_doubles(
    tmp_path_factory: pytest.TempPathFactory, scores: list[Decimal]
) -> None:
    table = candidates(tmp_path_factory.mktemp("c") / "c.parquet", scores, pl.Decimal(38, 5))
    assert table["candidate_score"].to_list() == [float(score) for score in scores]


@pytest.mark.parametrize("dtype", [pl.Int8, pl.UInt32, pl.Int64, pl.Float32])
def test_scores_of_every_number_type_are_read(tmp_path: Path, dtype: Any) -> None:
    assert candidates(tmp_path / "c.parquet", [3, 2, 1], dtype)["candidate_score"].to_list() == [3.0, 2.0, 1.0]


def test_lists_of_fixed_length_and_categories_are_lists_and_text(tmp_path: Path) -> None:
    results = pl.Series(
        [[{"item_id": "a", "score": 1.0}]],
        dtype=pl.Array(pl.Struct({"item_id": pl.Categorical, "score": pl.Float64}), 1),
    )
    pl.DataFrame({"user_id": pl.Series(["u"], dtype=pl.Categorical), "results": results}).write_parquet(
        tmp_path / "c.parquet"
    )
    assert ingestion.read_candidates(tmp_path / "c.parquet").table.rows() == [("u", 1, "a", 1.0)]


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_is_called_by_its_name_at_its_row(tmp_path: Path, number: float) -> None:
    name = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[str(number)]
    with pytest.raises(InputError, match=rf"line 1, field results\[1\]\.score: expected a finite number, got {name}"):
        candidates(tmp_path / "c.parquet", [1.0, number])


def test_what_nothing_reads_may_hold_anything(tmp_path: Path) -> None:
    table = history(tmp_path / "h.parquet", votes=float("nan"), image=b"\xff", seen=datetime(1, 1, 1), review_text=5)
    assert table["item_id"].to_list() == ["i1"]


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Asia/Kolkata"])
def test_times_of_every_unit_and_zone_are_the_same_instant(tmp_path: Path, unit: Any, zone: str | None) -> None:
    moment = pl.Series([datetime(2020, 9, 13, 12, 26, 40, 123_000)], dtype=pl.Datetime(unit, "UTC"))
    column = moment.dt.replace_time_zone(None) if zone is None else moment.dt.convert_time_zone(zone)
    row = pl.DataFrame({"item_id": "i", "rating": 5, "timestamp": column}).select(
        reviews=pl.concat_list(pl.struct(pl.all()))
    )
    row.with_columns(user_id=pl.lit("u")).write_parquet(tmp_path / "h.parquet")
    table = ingestion.read_histories(tmp_path / "h.parquet", "amazon").frame
    assert table["timestamp"].to_list() == [datetime(2020, 9, 13, 12, 26, 40, 123_000, tzinfo=UTC)]


def test_dates_are_midnights_and_times_beyond_the_calendar_are_bad_lines(tmp_path: Path) -> None:
    assert history(tmp_path / "h.parquet", timestamp=date(2020, 9, 13))["timestamp"].item() == datetime(
        2020, 9, 13, tzinfo=UTC
    )
    review = pl.struct(item_id=pl.lit("i"), rating=5, timestamp=pl.lit(2**61).cast(pl.Datetime("us")))
    pl.select(user_id=pl.lit("u"), reviews=pl.concat_list(review)).write_parquet(tmp_path / "h.parquet")
    with pytest.raises(InputError, match=r"line 1, field reviews\[0\]\.timestamp: expected epoch .*, got '\+75039-"):
        ingestion.read_histories(tmp_path / "h.parquet", "amazon")


def many_rows(path: Path) -> None:
    pl.select(user_id=pl.repeat("u", 3_000_000), item_id=pl.repeat("i", 3_000_000)).write_parquet(path)


def long_list(path: Path) -> None:
    item = pl.select(pl.struct(item_id=pl.repeat("a", 3_000_000), score=1.0)).to_series()
    pl.DataFrame({"user_id": ["u"], "results": [item], "item_id": ["i"]}).write_parquet(path)


def long_text(path: Path) -> None:
    pl.DataFrame({"user_id": ["u"], "item_id": ["x" * (65 << 20)]}).write_parquet(path)


def nulls(path: Path) -> None:
    pl.select(user_id=pl.repeat(None, 5_000_000, dtype=pl.String)).write_parquet(path)


def prefixes(path: Path) -> None:
    path.write_bytes(zlib.decompress(base64.b85decode(DELTA)))


@pytest.mark.parametrize("write", [many_rows, long_list, long_text, nulls, prefixes])
def test_what_unpacks_to_too_much_is_refused_before_anything_is_decoded(
    tmp_path: Path, write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "gt.parquet"
    write(path)
    monkeypatch.setattr(pl.LazyFrame, "collect_batches", lambda *_, **__: pytest.fail("was decoded"))
    read = ingestion.read_candidates if write is long_list else ingestion.read_ground_truth
    with pytest.raises(InputError, match=TOO_MUCH):
        read(path)


def test_columns_that_nothing_reads_do_not_count(tmp_path: Path) -> None:
    pl.DataFrame({"user_id": ["u"], "item_id": ["i"], "text": ["x" * (65 << 20)]}).write_parquet(
        tmp_path / "gt.parquet"
    )
    assert ingestion.read_ground_truth(tmp_path / "gt.parquet").table.rows() == [("u", "i")]


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc for the peak of memory")
def test_a_text_that_a_dictionary_repeats_is_refused_in_little_memory(tmp_path: Path) -> None:
    texts = pl.Series(["x" * (1 << 20), "y"], dtype=pl.String)
    pl.DataFrame({"user_id": "u", "item_id": texts.gather([0] * 200 + [1])}).write_parquet(tmp_path / "gt.parquet")
    assert (tmp_path / "gt.parquet").stat().st_size < 20_000
    assert unpacked_bytes(tmp_path / "gt.parquet", NAMES) < 8 << 20
    code = (
        "import sys, pathlib\n"
        "from personarank_dagster.raw.ingestion import read_ground_truth\n"
        "try: read_ground_truth(pathlib.Path(sys.argv[1]))\n"
        "except Exception as error: print(error)\n"
        "print(pathlib.Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "gt.parquet")]
    message, kilobytes = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert re.search(TOO_MUCH, message)
    assert int(kilobytes) < 300_000


def test_a_row_over_the_limit_is_named(tmp_path: Path) -> None:
    pl.DataFrame({"user_id": ["u", "v"], "item_id": ["i", "x" * (2 << 20)]}).write_parquet(tmp_path / "gt.parquet")
    with pytest.raises(InputError, match=r"gt\.parquet line 2: is longer than max_line_mb 1; split it or raise"):
        ingestion.read_ground_truth(tmp_path / "gt.parquet", ReadRules(max_line_bytes=1 << 20))


def test_rows_of_much_text_are_read_in_pieces_and_in_order(tmp_path: Path) -> None:
    items = [f"{n:03}" + "x" * 50_000 for n in range(300)]
    pl.DataFrame({"user_id": "u", "item_id": items}).write_parquet(tmp_path / "gt.parquet")
    assert ingestion.read_ground_truth(tmp_path / "gt.parquet").frame["item_id"].to_list() == items


def varint(value: int, length: int = 1) -> bytes:
    """A number of a Thrift footer, made longer with leading zeros."""
    digits = [value >> shift & 127 for shift in range(0, max(value.bit_length(), 7 * length), 7)]
    return bytes([*(digit | 128 for digit in digits[:-1]), digits[-1]])


def test_a_footer_that_says_less_than_its_pages_does_not_help(tmp_path: Path) -> None:
    path = tmp_path / "gt.parquet"
    long_text(path)
    content = path.read_bytes()
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    # 65 MB and what stands before them, zigzag.
    said = next(text for more in range(200) if (text := varint(2 * ((65 << 20) + more))) in content[footer:])
    path.write_bytes(content[:footer] + content[footer:].replace(said, varint(2 * 300, len(said))))
    assert len(path.read_bytes()) == len(content)
    with pytest.raises(InputError, match=TOO_MUCH):
        ingestion.read_ground_truth(path)


def test_a_damaged_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    candidates(path, [float(n) for n in range(20)])
    good, outcomes = path.read_bytes(), set()
    for number in range(int(os.environ.get("PERSONARANK_FUZZ", "160"))):
        rng = random.Random(number)
        damaged = bytearray(good)
        damaged[rng.randrange(4, len(good) - 8)] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            outcomes.add(ingestion.read_candidates(path).read)
        except InputError as error:
            outcomes.add("named" if str(error).startswith(str(path)) else str(error))
    assert {20, "named"} <= outcomes
    assert not {one for one in outcomes if isinstance(one, str)} - {"named"}
