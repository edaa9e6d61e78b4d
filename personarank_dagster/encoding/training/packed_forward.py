"""The forward pass of an encoder that is trained, without padding, through the model's own layers.

So gradients, adapters and dropout are those of the model. Dropout of attention weights alone is left out: fused
attention over texts of various lengths has none, and without it a step on a CPU takes half the time.
"""

from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor

from personarank_dagster.core.profiles import IntArray
from personarank_dagster.encoding.attention import Layout, attention_for, to_device
from personarank_dagster.encoding.engine import MIN_COSINE, PROBES
from personarank_dagster.encoding.packed import FIRST_POSITION, is_known, pooled
from personarank_dagster.encoding.token_batches import text_reader


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
    own, kind = layer.attention.self, hidden.device.type
    # Once for three layers, which would each do it.
    given = hidden.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else hidden
    shape = (len(hidden), own.num_attention_heads, -1)
    query, key, value = (linear(given).view(shape) for linear in (own.query, own.key, own.value))
    attended = attention_for(hidden.device, query.dtype)(query, key, value, layout).flatten(1)
    hidden = layer.attention.output(attended, hidden)
    through: Tensor = layer.output(layer.intermediate(hidden), hidden)
    return through
