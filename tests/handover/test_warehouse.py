from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from s3fs import S3FileSystem

from personarank_dagster.configuration.export_settings import ExportConfig, ParquetExport, load_export
from personarank_dagster.core.errors import ConfigError
from personarank_dagster.handover.warehouse import Written, write_version
from tests.handover.conftest import make_lists
from tests.object_store import object_store

LISTS = {"u1": [("i1", 0.9), ("i2", 0.5)], "u2": [("i2", 0.5)]}
PUBLISHED = datetime(2026, 1, 2, tzinfo=UTC)
PATTERN = "dataset=*/version=*/*.parquet"


def write(folder: Path, version: str, keep: int = 2) -> Written:
    settings = ParquetExport(folder=str(folder), keep=keep)
    place = {"dataset": "amazon", "version": version, "published": PUBLISHED, "scratch": folder.parent / "scratch"}
    return write_version(make_lists(LISTS), settings, **place)


def test_a_version_is_one_file_with_flat_columns(tmp_path: Path) -> None:
    written = write(tmp_path / "lists", "v1")
    table = pl.read_parquet(written.path, hive_partitioning=False)
    assert Path(written.path) == tmp_path / "lists/dataset=amazon/version=v1/lists.parquet"
    assert (written.rows, written.bytes) == (3, Path(written.path).stat().st_size)
    assert {"user_id", "rank", "item_id", "score", "event_timestamp"} <= {*table.columns}
    assert not {"dataset", "version"} & {*table.columns}
    assert not any(dtype.is_nested() for dtype in table.dtypes)
    assert table["event_timestamp"].to_list() == [PUBLISHED] * 3
    assert not list((tmp_path / "scratch").iterdir())


def test_old_versions_go_and_so_do_those_that_were_gone_back_from(tmp_path: Path) -> None:
    assert [write(tmp_path / "lists", version).removed for version in ("v1", "v2", "v3")] == [[], [], ["v1"]]
    assert write(tmp_path / "lists", "v2").removed == ["v3"]
    assert [path.parent.name for path in (tmp_path / "lists").glob(PATTERN)] == ["version=v2"]


def test_duckdb_reads_the_newest_version(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb", reason="DuckDB is not installed")
    for version in ("v1", "v2"):
        write(tmp_path / "lists", version)
    source = f"read_parquet('{tmp_path}/lists/{PATTERN}', hive_partitioning = true)"
    query = f"SELECT dataset, version, user_id, rank, item_id FROM {source} "
    rows = duckdb.sql(
        query + f"WHERE version = (SELECT max(version) FROM {source}) ORDER BY user_id, rank"
    ).fetchall()
    assert rows == [("amazon", "v2", "u1", 1, "i1"), ("amazon", "v2", "u1", 2, "i2"), ("amazon", "v2", "u2", 1, "i2")]


def test_the_columns_are_those_that_a_file_source_of_feast_names(tmp_path: Path) -> None:
    table = pl.scan_parquet(write(tmp_path / "lists", "v1").path, hive_partitioning=False).collect_schema()
    # Join key and timestamp_field of https://docs.feast.dev/reference/data-sources/file
    assert (table["user_id"], table["event_timestamp"]) == (pl.String, pl.Datetime("us", "UTC"))


def test_a_bucket_holds_the_same_files(tmp_path: Path) -> None:
    with object_store() as bucket:
        settings = ParquetExport(folder=f"{bucket}/lists", keep=2)
        place = {"dataset": "amazon", "published": PUBLISHED, "scratch": tmp_path / "scratch"}
        written = [write_version(make_lists(LISTS), settings, version=name, **place) for name in ("v1", "v2", "v3")]
        files = S3FileSystem().find("bucket/lists")
        content = S3FileSystem().cat_file(files[-1])
    assert [one.removed for one in written] == [[], [], ["v1"]]
    assert files == [f"bucket/lists/dataset=amazon/version={name}/lists.parquet" for name in ("v2", "v3")]
    assert content == Path(write(tmp_path / "lists", "v3").path).read_bytes()


def test_what_export_yaml_says(tmp_path: Path) -> None:
    path = tmp_path / "export.yaml"
    assert load_export(path) == ExportConfig()
    path.write_text("parquet: {folder: ../lists}\nredis: {url: 'redis://cache:6379/0'}\n")
    assert load_export(path).parquet.folder == str(tmp_path.parent / "lists")
    path.write_text("redis: {url: 'redis://me:secret@cache:6379/0'}\n")
    with pytest.raises(ConfigError, match=r"redis\.url must hold no password") as caught:
        load_export(path)
    assert "secret" not in str(caught.value)
