"""The forward pass of an encoder that is trained, without padding, through the model's own layers.

So gradients, adapters and dropout are those of the model. Dropout of attention weights alone is left out: fused
attention over texts of various lengths has none, and without it a step on a CPU takes half the time.
"""

from collections.abc import Sequence
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from torch.nn.functional import layer_norm, linear

from personarank_dagster.core.profiles import IntArray
from personarank_dagster.encoding.attention import Layout, attention_for, to_device
from personarank_dagster.encoding.engine import MIN_COSINE, PROBES
from personarank_dagster.encoding.packed import FIRST_POSITION, is_known, pooled
from personarank_dagster.encoding.tokens.batches import text_reader


class PackedForward:
    """Vectors of texts, given by their tokens, by an encoder as it is: with its gradients and its dropout."""

    def __init__(self, encoder: SentenceTransformer) -> None:
        self.encoder = encoder
        self.transformer: Any = encoder[0].auto_model
        self.first_position = FIRST_POSITION[type(self.transformer)](self.transformer)

    def __call__(self, ids: IntArray, lengths: IntArray) -> Tensor:
        """Vectors (texts, dimension) of texts whose token ids stand one after another."""
        layout = Layout(lengths, self.transformer.device)
        hidden = self._embedded(to_device(ids, layout.device), layout)
        for layer in self.transformer.encoder.layer:
            hidden = _through(layer, hidden, layout)
        return pooled(self.encoder, layout.padded(hidden.float()), layout.mask)

    def _embedded(self, ids: Tensor, layout: Layout) -> Tensor:
        embeddings = self.transformer.embeddings
        words = embeddings.word_embeddings(ids) + embeddings.token_type_embeddings.weight[0]
        places = embeddings.position_embeddings(layout.positions + self.first_position)
        hidden: Tensor = embeddings.dropout(embeddings.LayerNorm(words + places))
        return hidden


def packed_forward(encoder: SentenceTransformer) -> PackedForward | None:
    """The encoder's forward pass without padding, if it is of a kind that is known and gives its own vectors."""
    if not is_known(getattr(encoder[0], "auto_model", None)):
        return None
    forward, prompt = PackedForward(encoder), encoder.prompts.get("document") or ""
    probes = text_reader(encoder, prompt).read(PROBES)
    was_training = encoder.training
    expected = encoder.eval().encode(probes.texts, prompt=prompt, convert_to_tensor=True, show_progress_bar=False)
    with torch.no_grad():
        cosines = torch.nn.functional.cosine_similarity(forward(probes.ids, probes.lengths), expected.float())
    encoder.train(was_training)
    return forward if bool((cosines >= MIN_COSINE["fp32"]).all()) else None


def _through(layer: Any, hidden: Tensor, layout: Layout) -> Tensor:
    own, given = layer.attention.self, _as_computed(hidden)
    shape = (len(hidden), own.num_attention_heads, -1)
    query, key, value = (rows.view(shape) for rows in _queries_keys_values(own, given))
    attended = attention_for(hidden.device, query.dtype)(query, key, value, layout).flatten(1)
    hidden = _added(layer.attention.output, attended, given)
    return _added(layer.output, layer.intermediate(hidden), hidden)


def _as_computed(hidden: Tensor) -> Tensor:
    """On a GPU rows stay in the few bits that products take, also between layers: half the memory, half the time."""
    kind = hidden.device.type
    if kind == "cuda" and torch.is_autocast_enabled(kind):
        return hidden.to(torch.get_autocast_dtype(kind))
    return hidden


def _queries_keys_values(own: Any, rows: Tensor) -> Sequence[Tensor]:
    """By one product, where nothing wraps the layers."""
    layers = (own.query, own.key, own.value)
    if rows.device.type == "cpu" or any(type(layer) is not nn.Linear for layer in layers):
        return [layer(rows) for layer in layers]
    weight, bias = torch.cat([layer.weight for layer in layers]), torch.cat([layer.bias for layer in layers])
    return linear(rows, weight, bias).chunk(3, dim=1)


def _added(output: Any, rows: Tensor, hidden: Tensor) -> Tensor:
    """A layer of `rows`, dropped out, added to `hidden`, in the norm, which computes in fp32 whatever it is given."""
    if hidden.device.type == "cpu":
        added: Tensor = output(rows, hidden)
        return added
    norm, summed = output.LayerNorm, output.dropout(output.dense(rows)) + hidden
    with torch.autocast(hidden.device.type, enabled=False):
        return layer_norm(summed, norm.normalized_shape, norm.weight.to(summed), norm.bias.to(summed), norm.eps)
