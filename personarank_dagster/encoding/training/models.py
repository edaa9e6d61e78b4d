"""What is trained: how texts and personas become vectors, and the loss of a batch of pairs."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from torch.nn.functional import normalize

from personarank_dagster.configuration.settings import TrainConfig
from personarank_dagster.core.encoders import Precision, Side
from personarank_dagster.core.profiles import FloatArray, IntArray
from personarank_dagster.encoding.devices import training_precision
from personarank_dagster.encoding.encoder import encode
from personarank_dagster.encoding.tokens.batches import text_reader, token_table
from personarank_dagster.encoding.training import loss
from personarank_dagster.encoding.training.activations import Activations
from personarank_dagster.encoding.training.batches import TrainingData
from personarank_dagster.encoding.training.packed_forward import PackedForward, packed_forward
from personarank_dagster.encoding.training.ranks import gather_rows, own_chunks, rank_and_world


class ProfilePersonaModel(nn.Module):
    """Loss of a batch of pairs; how texts become unit vectors is up to the verbs of the subclasses.

    With `negatives: catalogue` the softmax is over a pool: all personas, or as many as `negative_pool` says, drawn
    anew for each epoch. The personas of the batch are always in it.
    """

    def __init__(self, data: TrainingData, config: TrainConfig) -> None:
        super().__init__()
        self.settings = config
        self.persona_items: Tensor
        self.pool: Tensor
        self.register_buffer("persona_items", torch.from_numpy(data.persona_items), persistent=False)
        # Part of a checkpoint: a training that continues within an epoch must see the same negatives.
        self.register_buffer("pool", self._draw_pool(epoch=0))

    @abstractmethod
    def interactions(self, texts: Tensor) -> Tensor:
        """Unit vectors (texts, dim) of interaction texts, given by row."""

    @abstractmethod
    def personas(self, rows: Tensor) -> Tensor:
        """Unit vectors (rows, dim) of personas, given by row."""

    def start_epoch(self, epoch: int) -> None:
        """Draw the epoch's pool."""
        self.pool = self._draw_pool(epoch).to(self.pool.device)

    def compared(self, targets: Tensor, target_items: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rows (personas,) of the personas in the softmax, the place of each target in them, unit vectors.

        Where pairs are of histories, all personas of their items are in it; a place is -1 where none was selected.
        """
        if self.settings.pairs == "selections":
            rows, positives = torch.unique(targets, return_inverse=True)
        else:
            rows = torch.isin(self.persona_items, target_items).nonzero().squeeze(1)
            positives = torch.where(targets >= 0, torch.searchsorted(rows, targets.clamp(min=0)), -1)
        if self.settings.negatives == "catalogue":
            rows = torch.cat([rows, self.pool[~torch.isin(self.pool, rows)]])
        return rows, positives, self.personas(rows)

    def forward(
        self,
        texts: Tensor,
        text_weights: Tensor,
        targets: Tensor,
        target_items: Tensor,
        users: Tensor,
        neighbours: Tensor,
    ) -> dict[str, Tensor]:
        """Loss of the batch that `PairCollator` made."""
        interactions = self.interactions(texts)
        chosen = targets if self.settings.pairs != "histories" else torch.full_like(targets, -1)
        rows, positives, personas = self.compared(chosen, target_items)
        # Cosines are divided by a small temperature: they are no place for few bits.
        with torch.autocast(interactions.device.type, enabled=False):
            cosines = loss.weighted_profiles(interactions, text_weights) @ personas.T
            items = self.persona_items[rows]
            if self.settings.loss == "listwise":
                columns, item_of_persona = torch.unique(items, return_inverse=True)
                own = torch.searchsorted(columns, target_items)
                cosines = loss.listwise_scores(cosines, positives, own, item_of_persona)
                positives, items = own, columns
            return {"loss": self._loss(cosines, positives, items, users, neighbours)}

    def _loss(self, scores: Tensor, positives: Tensor, items: Tensor, users: Tensor, neighbours: Tensor) -> Tensor:
        settings = self.settings
        excluded = torch.zeros_like(scores, dtype=torch.bool)
        if settings.mask_same_item:
            excluded |= loss.siblings(items, positives)
        if settings.mask_same_user:
            excluded |= loss.same_user(users, positives, scores.shape[1])
        if settings.mask_percpos:
            excluded |= loss.above_positive_share(scores, positives, settings.percpos_threshold)
        if settings.hard_negatives:
            excluded |= loss.not_neighbours(items, neighbours[:, : settings.hard_negatives])
        return loss.info_nce(
            scores,
            positives,
            excluded=loss.with_a_negative(excluded, scores, positives),
            temperature=settings.temperature,
            label_smoothing=settings.label_smoothing,
        )

    def _draw_pool(self, epoch: int) -> Tensor:
        everything = len(self.persona_items)
        size = min(self.settings.negative_pool or everything, everything)
        if size == everything:
            return torch.arange(everything)
        rng = np.random.default_rng([self.settings.seed, epoch])
        return torch.from_numpy(np.sort(rng.choice(everything, size, replace=False)))


class HeadModel(ProfilePersonaModel):
    """`tune: head`: one linear map per side, identity at the start, on vectors of the frozen encoder."""

    def __init__(
        self,
        data: TrainingData,
        config: TrainConfig,
        interaction_vectors: FloatArray,
        persona_vectors: FloatArray,
    ) -> None:
        super().__init__(data, config)
        dimension = persona_vectors.shape[1]
        self.query, self.document = (nn.Linear(dimension, dimension, bias=False) for _ in range(2))
        nn.init.eye_(self.query.weight)
        nn.init.eye_(self.document.weight)
        self.interaction_vectors: Tensor
        self.persona_vectors: Tensor
        self.register_buffer("interaction_vectors", torch.from_numpy(interaction_vectors), persistent=False)
        self.register_buffer("persona_vectors", torch.from_numpy(persona_vectors), persistent=False)

    def interactions(self, texts: Tensor) -> Tensor:
        return normalize(self.query(self.interaction_vectors[texts]), dim=1)

    def personas(self, rows: Tensor) -> Tensor:
        return normalize(self.document(self.persona_vectors[rows]), dim=1)


class EncoderModel(ProfilePersonaModel):
    """`tune: full` and `tune: lora`: the encoder itself is trained, whichever of its weights are not frozen.

    A batch is encoded in chunks of texts of like length, which keep their activations where there is memory for them
    (see `activations`). With several ranks each encodes its share of the batch's chunks.

    Every persona in the softmax is encoded anew and has its gradient. Vectors that were kept from earlier steps would
    be attracted by their own users and repelled by nobody: such an encoder maps all personas to one place.
    """

    def __init__(
        self,
        data: TrainingData,
        config: TrainConfig,
        encoder: SentenceTransformer,
        interaction_texts: Sequence[str],
        persona_texts: Sequence[str],
    ) -> None:
        super().__init__(data, config)
        self.encoder = encoder
        self.texts: dict[Side, Sequence[str]] = {"query": interaction_texts, "document": persona_texts}
        self.tokens = {
            side: token_table(text_reader(encoder, encoder.prompts[side] or ""), texts)
            for side, texts in self.texts.items()
        }
        self.packed = packed_forward(encoder)
        self.texts_encoded = 0

    @cached_property
    def activations(self) -> Activations:
        """Of the device that the model is on when it is first trained."""
        return Activations(self.persona_items.device, self.encoder.parameters())

    def interactions(self, texts: Tensor) -> Tensor:
        self.activations.start_step()
        return self._vectors("query", texts.tolist())

    def personas(self, rows: Tensor) -> Tensor:
        return self._vectors("document", rows.tolist())

    def train(self, mode: bool = True) -> "EncoderModel":
        super().train(mode)
        self.encoder.train(mode and self.settings.dropout)
        return self

    def _vectors(self, side: Side, rows: list[int]) -> Tensor:
        """Unit vectors (rows, dim): with gradient, or of the encoding engine, which does not know adapters."""
        self.texts_encoded += len(rows)
        by_engine = not torch.is_grad_enabled() and self.settings.tune == "full"
        return self._measured(side, rows) if by_engine else self._encode(side, rows)

    def _measured(self, side: Side, rows: list[int]) -> Tensor:
        """Every rank its share."""
        rank, world = rank_and_world()
        device = self.persona_items.device
        precision: Precision = "bf16" if training_precision(self.settings, device.type) == "bf16" else "fp32"
        texts = [self.texts[side][row] for row in rows[rank::world]]
        own = torch.from_numpy(encode(self.encoder, texts, side=side, precision=precision)).to(device)
        gathered = gather_rows(own, [len(rows[other::world]) for other in range(world)])
        order = [place for other in range(world) for place in range(len(rows))[other::world]]
        return gathered[np.argsort(order)]

    def _encode(self, side: Side, rows: list[int]) -> Tensor:
        """In chunks; with gradient, where gradients are on."""
        lengths = self.tokens[side].lengths[rows]
        share = -(-len(rows) // rank_and_world()[1])
        chunks = length_chunks(lengths.tolist(), self.activations.chunk_tokens, at_most=share)
        own, by_rank = own_chunks(list(chunks))
        # A rank without a text encodes one for nothing: all wait for its gradient of every weight, be it zero.
        encoded = [
            self.activations.run(self._computation(side, np.array(rows)[chunk]), int(lengths[chunk].sum()))
            for chunk in own or [by_rank[0][0][:1]]
        ]
        vectors = torch.cat(encoded)[: sum(map(len, own))]
        order = [i for chunks_of_rank in by_rank for chunk in chunks_of_rank for i in chunk]
        gathered = gather_rows(vectors, [sum(map(len, chunks_of_rank)) for chunks_of_rank in by_rank])
        return gathered[np.argsort(order)]

    def _computation(self, side: Side, rows: IntArray) -> Callable[[], Tensor]:
        """What gives the unit vectors (rows, dim) of these texts, packed or padded; both know the tokens already."""
        if self.packed:
            return partial(_packed, self.packed, *self.tokens[side].of(rows))
        texts = [self.texts[side][row] for row in rows]
        features = self.encoder.preprocess(texts, prompt=self.encoder.prompts[side])
        device = self.persona_items.device
        return partial(_padded, self.encoder, features | {key: value.to(device) for key, value in _tensors(features)})


def _packed(forward: PackedForward, ids: IntArray, lengths: IntArray) -> Tensor:
    return normalize(forward(ids, lengths), dim=1)


def _padded(encoder: SentenceTransformer, features: dict[str, Any]) -> Tensor:
    # The encoder writes into what it is given, and may be called twice.
    return normalize(encoder(dict(features))["sentence_embedding"].float(), dim=1)


def _tensors(features: dict[str, Any]) -> Iterator[tuple[str, Tensor]]:
    return ((key, value) for key, value in features.items() if torch.is_tensor(value))


def length_chunks(tokens: Sequence[int], budget: int, *, at_most: int) -> Iterator[list[int]]:
    """Places of texts, longest first, in chunks of up to `budget` padded tokens and `at_most` texts, but of one."""
    by_length = np.argsort(-np.asarray(tokens), kind="stable").tolist()
    begin = 0
    while begin < len(by_length):
        size = max(1, min(at_most, budget // max(1, tokens[by_length[begin]])))
        yield by_length[begin : begin + size]
        begin += size
