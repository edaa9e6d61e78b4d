from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from torch.nn.functional import layer_norm
from transformers import PreTrainedTokenizerFast, XLMRobertaConfig, XLMRobertaModel, set_seed

from personarank_dagster.core.encoders import BUNDLED_NAME
from personarank_dagster.core.profiles import unit_rows
from personarank_dagster.encoding import engine as module
from personarank_dagster.encoding import packed
from personarank_dagster.encoding.encoder import encode, load_model
from personarank_dagster.encoding.engine import Engine, Precision
from personarank_dagster.encoding.packed import can_pack

WORDS = ["the", "red", "blue", "lamp", "chair", "desk", "persona", "item"]


def texts_of(num: int, max_words: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(1, max_words))) for _ in range(num)]


def xlm_roberta(folder: Path, pooling: str) -> SentenceTransformer:
    set_seed(0)
    vocabulary = {word: i for i, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>")
    fast.save_pretrained(folder)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = XLMRobertaConfig(vocab_size=len(vocabulary), max_position_embeddings=66, pad_token_id=1, **sizes)
    XLMRobertaModel(config).save_pretrained(folder)
    transformer = Transformer(str(folder), max_seq_length=64)
    return SentenceTransformer(modules=[transformer, Pooling(16, pooling_mode=pooling)], device="cpu")


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_packed_xlm_roberta_gives_what_sentence_transformers_gives(tmp_path: Path, pooling: str) -> None:
    model = xlm_roberta(tmp_path, pooling)
    texts = texts_of(50, 40)
    assert Engine(model).way == "packed"
    expected = unit_rows(model.encode(texts, show_progress_bar=False))
    np.testing.assert_allclose(encode(model, texts), expected, atol=1e-5)


def reference_norm(rows: Tensor, residual: Tensor, bias: Tensor, weight: Tensor, shift: Tensor, eps: float) -> Tensor:
    """What the kernel of `fused_norm` gives, in torch."""
    return layer_norm((rows + bias + residual).float(), weight.shape, weight.float(), shift.float(), eps).to(rows)


def test_sums_and_norms_in_one_kernel_are_asked_for_with_the_numbers_of_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, texts = xlm_roberta(tmp_path, "mean"), texts_of(50, 40)
    with torch.no_grad():
        for layer in model[0].auto_model.encoder.layer:
            for output in (layer.output, layer.attention.output):
                for part in (output.dense.bias, output.LayerNorm.weight, output.LayerNorm.bias):
                    part.uniform_(0.5, 1.5)
    apart = encode(model, texts)
    monkeypatch.setattr(packed, "_fused", lambda device, dtype: reference_norm)
    assert Engine(model).way == "packed"
    np.testing.assert_allclose(encode(model, texts), apart, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="the kernel needs a GPU")
@pytest.mark.parametrize("width", [8, 384, 1_000])
def test_the_kernel_gives_what_torch_gives(width: int) -> None:
    from personarank_dagster.encoding.fused_norm import add_norm

    rows, residual = torch.randn(2, 300, width, dtype=torch.bfloat16, device="cuda")
    numbers = torch.randn(3, width, dtype=torch.bfloat16, device="cuda")
    expected = reference_norm(rows, residual, *numbers, 1e-6)
    torch.testing.assert_close(add_norm(rows, residual, *numbers, 1e-6), expected, atol=0.05, rtol=0.02)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_vector_depends_on_its_text_alone_to_the_last_bit(precision: Precision) -> None:
    model = load_model(BUNDLED_NAME, max_len=128, device="cpu")
    texts = texts_of(40, 60)
    together = encode(model, texts, precision=precision)
    order = np.random.default_rng(1).permutation(len(texts))
    assert np.array_equal(encode(model, [texts[i] for i in order], precision=precision), together[order])
    assert np.array_equal(encode(model, texts[:3], precision=precision), together[:3])
    assert np.array_equal(encode(model, texts[5:6], precision=precision), together[5:6])


def test_a_model_that_packing_would_change_is_encoded_padded(
    tiny_model_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(tiny_model_path, max_len=32, device="cpu")
    assert Engine(model).way == "packed"
    texts = texts_of(20, 20)
    packed = encode(model, texts)
    monkeypatch.setitem(module.MIN_COSINE, "fp32", 1.1)
    assert Engine(model).way == "padded"
    np.testing.assert_allclose(encode(model, texts), packed, atol=1e-6)


def test_a_layer_of_another_kind_is_not_packed(tiny_model_path: str) -> None:
    model = load_model(tiny_model_path, max_len=32, device="cpu")
    transformer = model[0].auto_model
    assert can_pack(transformer)
    transformer.encoder.layer[1].output.dense = torch.nn.Bilinear(1, 1, 1)
    assert not can_pack(transformer)


def test_out_of_memory_halves_the_budget_and_goes_on(tiny_model_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(load_model(tiny_model_path, max_len=32, device="cpu"))
    compute, sizes = engine._packed_vectors, []

    def fail_when_large(transformer, batch):  # type: ignore[no-untyped-def]
        sizes.append(len(batch.texts))
        if len(batch.texts) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return compute(transformer, batch)

    monkeypatch.setattr(engine, "_packed_vectors", fail_when_large)
    texts = texts_of(16, 10)
    places = np.concatenate([encoded.places for encoded in engine.stream([texts])])
    assert sorted(places) == list(range(16))
    assert sizes[:3] == [16, 8, 4]
    assert engine.budget == module.CPU_TOKENS // 8


def test_an_error_that_is_not_about_memory_is_raised(tiny_model_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(load_model(tiny_model_path, max_len=32, device="cpu"))

    def fail(transformer, batch):  # type: ignore[no-untyped-def]
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(engine, "_packed_vectors", fail)
    with pytest.raises(RuntimeError, match="shapes differ"):
        list(engine.stream([["a lamp", "a chair"]]))


def test_texts_longer_than_the_model_reads_are_marked(tiny_model_path: str) -> None:
    engine = Engine(load_model(tiny_model_path, max_len=8, device="cpu"))
    (encoded,) = engine.stream([["lamp " * 9, "lamp " * 8, "lamp"]])
    assert dict(zip(encoded.places.tolist(), encoded.cut.tolist(), strict=True)) == {0: True, 1: False, 2: False}


def test_places_count_through_all_windows(tiny_model_path: str) -> None:
    engine = Engine(load_model(tiny_model_path, max_len=32, device="cpu"))
    texts = texts_of(30, 10)
    expected = encode(engine.model, texts)
    for encoded in engine.stream([texts[:7], texts[7:8], texts[8:]]):
        assert np.array_equal(encoded.vectors, expected[encoded.places])
