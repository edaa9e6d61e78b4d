"""BERT and XLM-RoBERTa without padding: the tokens of a batch stand in one matrix, one text after another.

Linear layers see no padding, and attention runs within each text. On a CPU a text's vector depends on that text
alone, to the last bit, whatever stands beside it: rows of a matrix product do not depend on the number of rows (which
is kept a multiple of `ROWS`, since very few rows take another way), and texts attend in groups of equal length. On a
GPU the library chooses products by the number of rows, so that the last bits of bf16 differ with the batch.
"""

import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from torch.nn.functional import embedding, layer_norm, linear
from transformers import BertModel, RobertaModel, XLMRobertaModel
from transformers.activations import GELUActivation

from personarank_dagster.core.profiles import IntArray
from personarank_dagster.encoding.attention import Attend, Layout, attention_for, to_device

ROWS = 256

# Position of a text's first token.
FIRST_POSITION: dict[type, Callable[[Any], int]] = {
    BertModel: lambda model: 0,
    RobertaModel: lambda model: int(model.config.pad_token_id) + 1,
    XLMRobertaModel: lambda model: int(model.config.pad_token_id) + 1,
}

Rows = Callable[[Tensor], Tensor]


class PackedTransformer:
    """The transformer of a model, with its own copy of the weights in `dtype`; the model's stay as they are."""

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        self.first_position = FIRST_POSITION[type(model)](model)
        self.device, self.dtype = model.device, dtype
        embeddings = model.embeddings
        self.words = embeddings.word_embeddings.weight.detach()
        self.places = (
            embeddings.position_embeddings.weight.detach() + embeddings.token_type_embeddings.weight[0].detach()
        )
        self.norm = _norm(embeddings.LayerNorm, dtype)
        self.layers = [_Layer(layer, dtype) for layer in model.encoder.layer]

    def __call__(self, ids: IntArray, lengths: IntArray) -> Tensor:
        """Token vectors (tokens, dimension) of the texts whose token ids stand one after another in `ids`."""
        layout = Layout(lengths, self.device)
        words = embedding(to_device(ids, self.device), self.words)
        hidden = (words + embedding(layout.positions + self.first_position, self.places)).to(self.dtype)
        padding = -len(ids) % ROWS if self.device.type == "cpu" else 0
        hidden = self.norm(nn.functional.pad(hidden, (0, 0, 0, padding)))
        for layer in self.layers:
            hidden = layer(hidden, layout)
        return hidden[: len(ids)]


def is_known(model: Any) -> bool:
    """Whether the model's layers are those of BERT, one after another."""
    return type(model) in FIRST_POSITION and not model.config.is_decoder and not model.config.add_cross_attention


def can_pack(model: Any) -> bool:
    """Whether the model is one that `PackedTransformer` knows, with nothing added to it."""
    if not is_known(model):
        return False
    layers = [module for layer in model.encoder.layer for module in layer.modules() if hasattr(module, "weight")]
    return all(type(layer) in (nn.Linear, nn.LayerNorm) for layer in layers)


def pooled(model: SentenceTransformer, hidden: Tensor, mask: Tensor) -> Tensor:
    """What the model makes of token vectors (texts, length, dimension) where the mask (texts, length) is true."""
    features: dict[str, Tensor] = {"token_embeddings": hidden, "attention_mask": mask.long()}
    for module in list(model.children())[1:]:
        features = module(features)
    return features["sentence_embedding"]


class _Layer:
    def __init__(self, layer: Any, dtype: torch.dtype) -> None:
        own, output = layer.attention.self, layer.attention.output
        self.heads = own.num_attention_heads
        self.attend: Attend = attention_for(output.dense.weight.device, dtype)
        self.to_qkv = _linear([own.query, own.key, own.value], dtype)
        self.to_output = _normed(output, dtype)
        self.widen, self.narrow = _activated(layer.intermediate, dtype), _normed(layer.output, dtype)

    def __call__(self, hidden: Tensor, layout: Layout) -> Tensor:
        query, key, value = self.to_qkv(hidden).view(len(hidden), 3, self.heads, -1).unbind(1)
        attended = self.attend(query, key, value, layout).flatten(1)
        hidden = self.to_output(attended, hidden)
        return self.narrow(self.widen(hidden), hidden)


def _normed(output: Any, dtype: torch.dtype) -> Callable[[Tensor, Tensor], Tensor]:
    """How each half of a layer ends: the norm of a linear layer of the rows plus what went into the half."""
    layer, norm = output.dense, output.LayerNorm
    if add_norm := _fused(layer.weight.device, dtype):
        weight = layer.weight.detach().to(dtype).t()
        numbers = [part.detach().to(dtype) for part in (layer.bias, norm.weight, norm.bias)]
        return lambda rows, residual: add_norm(torch.mm(rows, weight), residual, *numbers, norm.eps)
    narrow, normed = _linear([layer], dtype), _norm(norm, dtype)
    return lambda rows, residual: normed(narrow(rows).add_(residual))


def _fused(device: torch.device, dtype: torch.dtype) -> Callable[..., Tensor] | None:
    """Bias, sum and norm as one kernel, where there is one: in half precision on a GPU."""
    if device.type != "cuda" or dtype == torch.float32 or not importlib.util.find_spec("triton"):
        return None
    from personarank_dagster.encoding.fused_norm import add_norm, can_compile

    return add_norm if can_compile(device, dtype) else None


def _activated(intermediate: Any, dtype: torch.dtype) -> Rows:
    """The widening layer with its activation."""
    layer, activation = intermediate.dense, intermediate.intermediate_act_fn
    if layer.weight.device.type == "cuda" and dtype != torch.float32 and isinstance(activation, GELUActivation):
        # One kernel instead of two; its tanh differs from the error function by less than bf16 can tell.
        weight, bias = layer.weight.detach().to(dtype).t(), layer.bias.detach().to(dtype)
        return lambda rows: torch._addmm_activation(bias, rows, weight, use_gelu=True)
    widen = _linear([layer], dtype)
    return lambda rows: activation(widen(rows))


def _linear(layers: list[Any], dtype: torch.dtype) -> Rows:
    """One matrix product for layers of the same input."""
    weight = torch.cat([layer.weight.detach() for layer in layers]).to(dtype)
    bias = torch.cat([layer.bias.detach() for layer in layers]).to(dtype)
    if dtype == torch.float32 and weight.device.type == "cpu" and torch.cpu._is_avx512_supported():
        # MKL takes its AVX2 path on AMD processors, oneDNN does not: twice as fast there.
        operations = torch.ops.mkldnn
        packed = operations._reorder_linear_weight(weight, None)
        return lambda rows: operations._linear_pointwise(rows, packed, bias, "none", [], "")
    return lambda rows: linear(rows, weight, bias)


def _norm(layer: Any, dtype: torch.dtype) -> Rows:
    weight, bias = layer.weight.detach().to(dtype), layer.bias.detach().to(dtype)
    return lambda rows: layer_norm(rows, weight.shape, weight, bias, layer.eps)
