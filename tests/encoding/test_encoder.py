from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from personarank_dagster.core.encoders import BUNDLED_NAME
from personarank_dagster.core.errors import EncoderError
from personarank_dagster.core.profiles import unit_rows
from personarank_dagster.encoding import sources
from personarank_dagster.encoding.encoder import (
    base_of,
    encode,
    load_model,
    model_fingerprint,
    save_model,
    with_heads,
)

TEXTS = ["a red lamp", "the blue chair desk lamp", "passage: persona", "a"]


def test_encoding_equals_sentence_transformers_whatever_the_order(tiny_model_path: str) -> None:
    model = load_model(tiny_model_path, max_len=32, device="cpu")
    expected = unit_rows(SentenceTransformer(tiny_model_path, device="cpu").encode(TEXTS))
    finished: list[int] = []
    np.testing.assert_allclose(encode(model, TEXTS, on_texts=finished.append), expected, atol=1e-6)
    np.testing.assert_allclose(encode(model, TEXTS[::-1]), expected[::-1], atol=1e-6)
    assert sum(finished) == len(TEXTS)


def test_the_bundled_model_encodes_real_text_and_bf16_stays_close() -> None:
    model = load_model(BUNDLED_NAME, max_len=64, device="cpu")
    texts = ["a warm guitar tone", "an electric guitar with a warm sound", "a seafood restaurant"]
    vectors = encode(model, texts)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.3
    assert (encode(model, texts, precision="bf16") * vectors).sum(axis=1).min() > 0.999


def test_heads_are_one_matrix_product_after_the_base(tiny_model_path: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    query, document = (rng.normal(size=(16, 16)).astype(np.float32) for _ in range(2))
    with_heads(load_model(tiny_model_path, max_len=32, device="cpu"), query, document).save(str(tmp_path))
    saved = SentenceTransformer(str(tmp_path), device="cpu")
    base = encode(base_of(saved), TEXTS)
    np.testing.assert_allclose(saved.encode_query(TEXTS), unit_rows(base @ query.T), atol=1e-5)
    np.testing.assert_allclose(saved.encode_document(TEXTS), unit_rows(base @ document.T), atol=1e-5)


def test_the_fingerprint_is_that_of_the_weights_and_the_length(tiny_model_path: str) -> None:
    def fingerprint(max_len: int = 32, change: float = 0.0) -> str:
        model = load_model(tiny_model_path, max_len=max_len, device="cpu")
        next(model.parameters()).data[0, 0] += change
        return model_fingerprint(model)

    prints = [fingerprint(), fingerprint(max_len=16), fingerprint(change=0.1)]
    assert len(set(prints)) == 3
    assert fingerprint() == prints[0]


def test_encoding_changes_neither_the_model_nor_what_is_saved(tiny_model_path: str, tmp_path: Path) -> None:
    saved: list[dict[str, bytes]] = []
    for name in ("fresh", "used"):
        model = load_model(tiny_model_path, max_len=32, device="cpu")
        before = model_fingerprint(model)
        if name == "used":
            encode(model, TEXTS, precision="bf16")
        save_model(model, tmp_path / name)
        files = [path for path in (tmp_path / name).rglob("*") if path.is_file()]
        saved.append({str(path.relative_to(tmp_path / name)): path.read_bytes() for path in files})
        assert model_fingerprint(model) == before
    assert saved[0] == saved[1]


def test_a_model_that_is_not_there_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"st_path .*nothing: there is no such folder; give a folder with"):
        load_model(str(tmp_path / "nothing"), max_len=32, device="cpu")


def test_a_length_beyond_the_model_is_refused(tiny_model_path: str) -> None:
    with pytest.raises(EncoderError, match=r"max_len must be at most 64 for .*, got 65"):
        load_model(tiny_model_path, max_len=65, device="cpu")


def test_another_file_than_the_official_bundled_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sources.BUNDLED_SHA256, "tokenizer.json", "0" * 64)
    with pytest.raises(EncoderError, match=r"tokenizer\.json: sha256 must be 0000.*, got be50"):
        load_model(BUNDLED_NAME, max_len=64, device="cpu")
