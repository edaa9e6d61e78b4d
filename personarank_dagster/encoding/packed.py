"""BERT and XLM-RoBERTa without padding: the tokens of a batch stand in one matrix, one text after another.

Linear layers see no padding, and attention runs within each text. A text's vector depends on that text alone, to the
last bit, whatever stands beside it: rows of a matrix product do not depend on the number of rows (which is kept a
multiple of `ROWS`, since very few rows take another way), and texts attend in groups of equal length.
"""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, linear, scaled_dot_product_attention
from transformers import BertModel, RobertaModel, XLMRobertaModel

ROWS = 256

# Texts of one length that stand side by side: their rows of the packed matrix, their number, their length.
Run = tuple[slice, int, int]

# Position of a text's first token.
FIRST_POSITION: dict[type, Callable[[Any], int]] = {
    BertModel: lambda model: 0,
    RobertaModel: lambda model: int(model.config.pad_token_id) + 1,
    XLMRobertaModel: lambda model: int(model.config.pad_token_id) + 1,
}


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

    def __call__(self, ids: Tensor, lengths: Sequence[int]) -> Tensor:
        """Token vectors (tokens, dimension) of the texts whose token ids stand one after another in `ids`."""
        groups = runs(lengths)
        positions = torch.cat([torch.arange(length).repeat(number) for _, number, length in groups])
        positions = positions.to(self.device) + self.first_position
        padding = -len(ids) % ROWS
        hidden = (self.words[ids] + self.places[positions]).to(self.dtype)
        hidden = self.norm(nn.functional.pad(hidden, (0, 0, 0, padding)))
        for layer in self.layers:
            hidden = layer(hidden, groups)
        return hidden[: len(ids)]


def runs(lengths: Sequence[int]) -> list[Run]:
    """Runs of equal lengths, in order."""
    found, row = [], 0
    for length, equal in groupby(lengths):
        number = len(list(equal))
        found.append((slice(row, row + number * length), number, length))
        row += number * length
    return found


def can_pack(model: Any) -> bool:
    """Whether the model is one that `PackedTransformer` knows, with nothing added to it."""
    if type(model) not in FIRST_POSITION or model.config.is_decoder or model.config.add_cross_attention:
        return False
    layers = [module for layer in model.encoder.layer for module in layer.modules() if hasattr(module, "weight")]
    return all(type(layer) in (nn.Linear, nn.LayerNorm) for layer in layers)


class _Layer:
    def __init__(self, layer: Any, dtype: torch.dtype) -> None:
        own, output = layer.attention.self, layer.attention.output
        self.heads = own.num_attention_heads
        self.to_qkv = _linear([own.query, own.key, own.value], dtype)
        self.to_output, self.norm = _linear([output.dense], dtype), _norm(output.LayerNorm, dtype)
        self.widen, self.activation = (
            _linear([layer.intermediate.dense], dtype),
            layer.intermediate.intermediate_act_fn,
        )
        self.narrow, self.last_norm = _linear([layer.output.dense], dtype), _norm(layer.output.LayerNorm, dtype)

    def __call__(self, hidden: Tensor, groups: list[Run]) -> Tensor:
        attended = self._attend(self.to_qkv(hidden), groups)
        hidden = self.norm(self.to_output(attended).add_(hidden))
        return self.last_norm(self.narrow(self.activation(self.widen(hidden))).add_(hidden))

    def _attend(self, qkv: Tensor, groups: list[Run]) -> Tensor:
        attended = qkv.new_zeros(len(qkv), qkv.shape[1] // 3)
        for rows, number, length in groups:
            # (3, texts, heads, length, dimension of a head)
            query, key, value = qkv[rows].view(number, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            mixed = scaled_dot_product_attention(query, key, value)
            attended[rows] = mixed.transpose(1, 2).reshape(number * length, -1)
        return attended


def _linear(layers: list[Any], dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """One matrix product for layers of the same input."""
    weight = torch.cat([layer.weight.detach() for layer in layers]).to(dtype)
    bias = torch.cat([layer.bias.detach() for layer in layers]).to(dtype)
    if dtype == torch.float32 and weight.device.type == "cpu" and torch.cpu._is_avx512_supported():
        # MKL takes its AVX2 path on AMD processors, oneDNN does not: twice as fast there.
        operations = torch.ops.mkldnn
        packed = operations._reorder_linear_weight(weight, None)
        return lambda rows: operations._linear_pointwise(rows, packed, bias, "none", [], "")
    return lambda rows: linear(rows, weight, bias)


def _norm(layer: Any, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    weight, bias = layer.weight.detach().to(dtype), layer.bias.detach().to(dtype)
    return lambda rows: layer_norm(rows, weight.shape, weight, bias, layer.eps)
