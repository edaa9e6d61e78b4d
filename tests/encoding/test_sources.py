"""Where models come from: folders, the cache of the hub, and what is said when there is nothing."""

from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from personarank_dagster.core.errors import EncoderError
from personarank_dagster.encoding.encoder import load_model, model_fingerprint
from personarank_dagster.encoding.tokens.counter import token_counter
from tests.encoding.training.test_trainer import Explosive
from tests.tiny_models import write_tiny_model

REVISIONS = ("1" * 40, "2" * 40)


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An offline machine with an empty cache of the hub."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def test_a_revision_is_loaded_from_the_cache_of_an_offline_machine(hub_cache: Path, tmp_path: Path) -> None:
    for revision, words in zip(REVISIONS, (["lamp", "chair"], ["lamp", "chair", "desk"]), strict=True):
        folder = hub_cache / "models--org--tiny" / "snapshots" / revision
        folder.parent.mkdir(parents=True, exist_ok=True)
        Path(write_tiny_model(tmp_path / revision, words)).rename(folder)
    first, second = (load_model("org/tiny", max_len=32, device="cpu", revision=revision) for revision in REVISIONS)
    assert model_fingerprint(first) != model_fingerprint(second)
    assert token_counter("org/tiny", REVISIONS[1]) is not None
    assert token_counter("org/tiny", "3" * 40) is None


def test_a_model_that_is_not_here_is_named_with_its_revision_and_the_remedy(hub_cache: Path) -> None:
    with pytest.raises(
        EncoderError,
        match=r"st_path org/gone, revision 1{40}: is neither a folder nor in the cache of this machine, and cannot "
        r"be downloaded \(.*run `hf download org/gone --revision 1{40} --include .*HF_HOME.*HF_HUB_OFFLINE=1.*"
        r"--local-dir FOLDER",
    ):
        load_model("org/gone", max_len=32, device="cpu", revision=REVISIONS[0])


def test_a_pickle_is_refused_unread_with_the_remedy(tmp_path: Path) -> None:
    folder = Path(write_tiny_model(tmp_path))
    (folder / "model.safetensors").unlink()
    torch.save(Explosive(tmp_path / "exploded"), folder / "pytorch_model.bin")
    with pytest.raises(
        EncoderError, match=r"pytorch_model\.bin has no model\.safetensors beside it; .* convert this"
    ):
        load_model(str(folder), max_len=32, device="cpu")
    assert not (tmp_path / "exploded").exists()


def test_code_of_a_model_is_refused(tmp_path: Path) -> None:
    folder = Path(write_tiny_model(tmp_path))
    modules = (folder / "modules.json").read_text()
    (folder / "modules.json").write_text(modules.replace("sentence_transformers.", "own_code."))
    (folder / "own_code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(EncoderError, match="that needs no code of its own"):
        load_model(str(folder), max_len=32, device="cpu")
    assert not (tmp_path / "ran").exists()
