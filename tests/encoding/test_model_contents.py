"""What a model is: its files, wherever they lie, or a commit of the hub."""

from pathlib import Path

import pytest
from huggingface_hub import constants

from personarank_dagster.core.encoders import BUNDLED_NAME
from personarank_dagster.core.errors import EncoderError
from personarank_dagster.encoding.model_contents import model_content, pinned_commit
from tests.tiny_models import write_tiny_model

COMMIT, OTHER = "1" * 40, "2" * 40


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of the hub of an offline machine, with the commit that main was at when it was downloaded."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    model = tmp_path / "hub" / "models--org--tiny"
    (model / "snapshots").mkdir(parents=True)
    Path(write_tiny_model(tmp_path / "made")).rename(model / "snapshots" / COMMIT)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(COMMIT)
    return model


def test_a_folder_whose_weights_were_replaced_is_another_model(tmp_path: Path) -> None:
    folder = Path(write_tiny_model(tmp_path / "model"))
    before = model_content(str(folder), None, tmp_path)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert model_content(str(folder), None, tmp_path) != before


def test_a_folder_that_moved_is_the_same_model(tmp_path: Path) -> None:
    folder = Path(write_tiny_model(tmp_path / "model"))
    before = model_content(str(folder), None, tmp_path)
    assert model_content(str(folder.rename(tmp_path / "moved")), None, tmp_path) == before


def test_a_folder_without_a_model_and_the_bundled_one_have_contents_too(tmp_path: Path) -> None:
    assert model_content(str(tmp_path / "nothing"), None, tmp_path) == "missing"
    assert len(model_content(BUNDLED_NAME, None, tmp_path)) == 32
    assert pinned_commit(BUNDLED_NAME, None, tmp_path) is None


def test_a_model_of_the_hub_is_pinned_at_its_first_use(hub: Path, tmp_path: Path) -> None:
    assert pinned_commit("org/tiny", None, tmp_path) == COMMIT
    (hub / "snapshots" / COMMIT).rename(hub / "snapshots" / OTHER)
    (hub / "refs" / "main").write_text(OTHER)
    assert pinned_commit("org/tiny", None, tmp_path) == COMMIT
    assert model_content("org/tiny", None, tmp_path) == f"org/tiny@{COMMIT}"


def test_a_commit_that_is_configured_is_the_content(tmp_path: Path) -> None:
    assert model_content("org/tiny", OTHER, tmp_path) == f"org/tiny@{OTHER}"


def test_a_model_that_was_not_downloaded_is_its_name(hub: Path, tmp_path: Path) -> None:
    assert model_content("org/gone", None, tmp_path) == "org/gone@main"
    with pytest.raises(EncoderError, match="is neither a folder nor in the cache"):
        pinned_commit("org/gone", None, tmp_path)
