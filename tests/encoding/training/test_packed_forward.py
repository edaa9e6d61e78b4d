"""The forward pass without padding: the model's own layers, with whatever they have become."""

import numpy as np
import pytest
import torch
from peft import LoraConfig
from peft.tuners.lora import LoraModel
from sentence_transformers import SentenceTransformer
from torch import Tensor

from personarank_dagster.core.profiles import IntArray
from personarank_dagster.encoding.encoder import load_model
from personarank_dagster.encoding.tokens.batches import text_reader, token_table
from personarank_dagster.encoding.training import packed_forward as forwards
from personarank_dagster.encoding.training.packed_forward import PackedForward, packed_forward

TEXTS = ["red lamp", "the red chair", "a blue desk item persona", "lamp", "the blue chair"]


def tokens(encoder: SentenceTransformer) -> tuple[IntArray, IntArray]:
    return token_table(text_reader(encoder), TEXTS).of(np.arange(len(TEXTS)))


def padded(encoder: SentenceTransformer) -> Tensor:
    return encoder(encoder.preprocess(TEXTS))["sentence_embedding"]


def forward_of(encoder: SentenceTransformer) -> PackedForward:
    found = packed_forward(encoder)
    assert found is not None
    return found


def with_adapters(model_path: str) -> SentenceTransformer:
    """Adapters that are not zero, as they are after a step."""
    encoder = load_model(model_path, max_len=32, device="cpu")
    LoraModel(encoder[0].auto_model, {"default": LoraConfig(r=2, target_modules="all-linear")}, "default")
    torch.manual_seed(0)
    for name, weight in encoder.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight)
    return encoder.eval()


def gradients(encoder: SentenceTransformer, vectors: Tensor) -> Tensor:
    encoder.zero_grad()
    (vectors * torch.arange(vectors.numel()).view(vectors.shape)).sum().backward()
    return torch.cat([weight.grad.flatten() for weight in encoder.parameters() if weight.grad is not None])


def test_adapters_have_the_vectors_and_gradients_that_they_have_with_padding(tiny_model_path: str) -> None:
    plain = load_model(tiny_model_path, max_len=32, device="cpu").eval()
    encoder = with_adapters(tiny_model_path)
    vectors = forward_of(encoder)(*tokens(encoder))
    torch.testing.assert_close(vectors, padded(encoder))
    assert not torch.allclose(vectors, padded(plain), atol=0.1)
    expected, got = gradients(encoder, padded(encoder)), gradients(encoder, vectors)
    assert float((got - expected).norm() / expected.norm()) < 1e-5
    trained = {name for name, weight in encoder.named_parameters() if weight.grad is not None}
    assert all("lora_" in name for name in trained)


def test_rows_are_dropped_out_in_training_and_attention_is_not(tiny_model_path: str) -> None:
    encoder = load_model(tiny_model_path, max_len=32, device="cpu").eval()
    forward, read = forward_of(encoder), tokens(encoder)
    quiet = forward(*read)
    encoder.train()
    assert not torch.allclose(forward(*read), quiet, atol=0.01)
    for module in encoder[0].auto_model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    for layer in encoder[0].auto_model.encoder.layer:
        layer.attention.self.dropout.p = 0.5
    torch.testing.assert_close(forward(*read), quiet)


def test_the_probes_leave_the_mode_of_the_encoder_as_it_was(tiny_model_path: str) -> None:
    encoder = load_model(tiny_model_path, max_len=32, device="cpu")
    for training in (True, False):
        assert forward_of(encoder.train(training)).encoder.training is training


def test_an_encoder_whose_packed_vectors_are_others_is_padded(
    tiny_model_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = load_model(tiny_model_path, max_len=32, device="cpu")
    monkeypatch.setitem(forwards.FIRST_POSITION, type(encoder[0].auto_model), lambda model: 1)
    assert packed_forward(encoder) is None
