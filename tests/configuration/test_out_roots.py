import shutil
from pathlib import Path

import pytest

from personarank_dagster.configuration.dataset import load_dataset
from personarank_dagster.configuration.out_roots import shared_out_root
from personarank_dagster.core.errors import ConfigError
from tests.configuration.test_public_scripts import write


def datasets(folder: Path, **out_roots: str) -> Path:
    for name, out_root in out_roots.items():
        data = write(folder, name) / "data.yaml"
        data.write_text(data.read_text().replace("./outputs", out_root) + "\nschema: amazon")
    return folder


@pytest.mark.parametrize(
    ("films", "books"),
    [("../out", "../out"), ("../out/", "../x/../out"), ("../out", "../link"), ("s3://b/p", "s3://b/p/")],
)
def test_two_datasets_with_one_out_root_are_refused_and_named(tmp_path: Path, films: str, books: str) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "out")
    datasets(tmp_path, films=films, books=books, songs="../own")
    with pytest.raises(ConfigError, match=r"books/data\.yaml: out_root must be a place of its own, got .*films/data"):
        load_dataset(tmp_path, "books")
    with pytest.raises(ConfigError, match=r"films/data\.yaml: out_root must be a place of its own, got .*books/data"):
        load_dataset(tmp_path, "films")
    assert load_dataset(tmp_path, "songs").data.out_root == tmp_path / "own"


def test_datasets_in_a_bucket_need_work_folders_of_their_own(tmp_path: Path) -> None:
    datasets(tmp_path, films="s3://b/films\nwork_dir: ../work", books="s3://b/books\nwork_dir: ../work")
    with pytest.raises(ConfigError, match=r"books/data\.yaml: out_root must be a place of its own"):
        load_dataset(tmp_path, "books")


def test_a_mended_out_root_counts_at_once(tmp_path: Path) -> None:
    datasets(tmp_path, films="../out", books="../out")
    with pytest.raises(ConfigError, match="give one of them another"):
        load_dataset(tmp_path, "films")
    shutil.rmtree(tmp_path / "books")
    assert load_dataset(tmp_path, "films").data.out_root == tmp_path / "out"


def test_out_roots_below_one_folder_of_the_environment_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets(tmp_path, films="../out", books="../out")
    monkeypatch.setenv("PERSONARANK_OUT_ROOT", str(tmp_path / "all"))
    assert load_dataset(tmp_path, "films").data.out_root == tmp_path / "all" / "films"


def test_a_dataset_that_cannot_be_read_costs_no_other(tmp_path: Path) -> None:
    datasets(tmp_path, films="../out", books="7", songs="[")
    assert load_dataset(tmp_path, "films").data.out_root == tmp_path / "out"


@pytest.mark.parametrize(
    ("shared", "usual", "other"),
    [("", "outputs", "outputs/tried"), ("/all", "/all", "/all/tried"), ("s3://b/p/", "s3://b/p", "s3://b/p/tried")],
)
def test_each_folder_of_datasets_has_a_report_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: str, usual: str, other: str
) -> None:
    monkeypatch.setenv("PERSONARANK_OUT_ROOT", shared)
    found = [shared_out_root(tmp_path / name) for name in ("configs", "tried")]
    assert [place.bucket or str(place.folder) for place in found] == [
        place if shared else str(tmp_path / place) for place in (usual, other)
    ]
