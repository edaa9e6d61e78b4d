"""The one encoding engine: texts in, unit vectors out, near the arithmetic limit of the machine.

Texts are tokenised once, in windows, in a thread of their own; batches are cut from them by a budget of tokens,
similar lengths together. Where the model allows it they run packed (see `packed`), else padded, as
sentence-transformers does it. Pooling and whatever follows it is the model's own.
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer
from torch import Tensor

from personarank_dagster.core.encoders import EncodedTexts, Side
from personarank_dagster.core.profiles import unit_rows
from personarank_dagster.encoding.packed import PackedTransformer, can_pack, runs

Precision = Literal["fp32", "bf16"]

# Tokens of a batch: on a CPU few enough for its caches, on a GPU enough to fill it.
CPU_TOKENS, GPU_TOKENS = 4_096, 32_768

# What the packed way must agree with before it is used; with the lengths that go wrong first.
PROBES = (
    "lamp",
    " A warm, dark GUITAR tone\nfor small rooms ",
    "query: [UserProfile-Interaction] 12.5 naïve café " * 12,
)
MIN_COSINE: dict[Precision, float] = {"fp32": 0.99999, "bf16": 0.999}


@dataclass(frozen=True)
class Tokens:
    """A text, its place among all texts, its token ids, and whether it was longer than the model reads."""

    place: int
    text: str
    ids: list[int]
    cut: bool


class Engine:
    """Encodes texts of one side with one model, whose weights and settings it leaves as they are."""

    def __init__(self, model: SentenceTransformer, precision: Precision = "fp32", side: Side = "document") -> None:
        self.model, self.precision = model, precision
        self.budget = CPU_TOKENS if model.device.type == "cpu" else GPU_TOKENS
        self.tokenizer = _own_tokenizer(model)
        self.prompt = model.prompts.get(side) or ""
        self.packed = self._pack()

    @property
    def way(self) -> Literal["packed", "padded"]:
        """How batches are computed."""
        return "packed" if self.packed else "padded"

    def stream(self, windows: Iterable[Sequence[str]]) -> Iterator[EncodedTexts]:
        """Vectors of the texts of all windows, batch by batch; places count the texts of all windows from 0.

        Where texts come sorted by length, batches are full. When memory runs out, the budget is halved for good.
        """
        for batch in self._batches(windows):
            yield from self._encode(batch)

    def _batches(self, windows: Iterable[Sequence[str]]) -> Iterator[list[Tokens]]:
        batch: list[Tokens] = []
        size = 0
        for window in self._tokenized(windows):
            for one in sorted(window, key=lambda one: -len(one.ids)):
                if batch and size + len(one.ids) > self.budget:
                    yield batch
                    batch, size = [], 0
                batch.append(one)
                size += len(one.ids)
        if batch:
            yield batch

    def _tokenized(self, windows: Iterable[Sequence[str]]) -> Iterator[list[Tokens]]:
        """Tokens of each window; those of the next are made while the caller works."""
        with ThreadPoolExecutor(1) as pool:
            coming: Future[list[Tokens]] | None = None
            place = 0
            for window in windows:
                ready, coming = coming, pool.submit(self._tokenize, place, window)
                place += len(window)
                if ready:
                    yield ready.result()
            if coming:
                yield coming.result()

    def _tokenize(self, place: int, texts: Sequence[str]) -> list[Tokens]:
        encodings = self.tokenizer.encode_batch_fast([self.prompt + text for text in texts])
        return [
            Tokens(place + i, text, encoding.ids, bool(encoding.overflowing))
            for i, (text, encoding) in enumerate(zip(texts, encodings, strict=True))
        ]

    def _encode(self, batch: list[Tokens]) -> Iterator[EncodedTexts]:
        try:
            vectors = self._packed_vectors(self.packed, batch) if self.packed else self._padded_vectors(batch)
        except RuntimeError as error:
            if len(batch) == 1 or not _is_out_of_memory(error):
                raise
            self.budget = max(1, self.budget // 2)
        else:
            places, cut = [one.place for one in batch], [one.cut for one in batch]
            yield EncodedTexts(np.array(places), unit_rows(vectors.float().cpu().numpy()), np.array(cut))
            return
        half = len(batch) // 2
        yield from self._encode(batch[:half])
        yield from self._encode(batch[half:])

    @torch.inference_mode()
    def _packed_vectors(self, transformer: PackedTransformer, batch: list[Tokens]) -> Tensor:
        lengths = [len(one.ids) for one in batch]
        ids = torch.from_numpy(np.concatenate([np.array(one.ids, dtype=np.int64) for one in batch]))
        hidden = transformer(_to_device(ids, self.model.device), lengths).float()
        return torch.cat(
            [self._pooled(hidden[rows].view(number, length, -1)) for rows, number, length in runs(lengths)]
        )

    def _pooled(self, hidden: Tensor) -> Tensor:
        """What the model makes of token vectors (texts, length, dimension) without padding."""
        mask = torch.ones(hidden.shape[:2], dtype=torch.int64, device=hidden.device)
        features: dict[str, Tensor] = {"token_embeddings": hidden, "attention_mask": mask}
        for module in list(self.model.children())[1:]:
            features = module(features)
        return features["sentence_embedding"]

    def _padded_vectors(self, batch: list[Tokens]) -> Tensor:
        with torch.autocast(self.model.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16"):
            return self._by_the_model([one.text for one in batch])

    def _by_the_model(self, texts: list[str]) -> Tensor:
        """Vectors as sentence-transformers itself computes them, in one batch."""
        return self.model.encode(
            texts, prompt=self.prompt, batch_size=len(texts), convert_to_tensor=True, show_progress_bar=False
        )

    def _pack(self) -> PackedTransformer | None:
        """The model's transformer in the packed way, if it has one and gives the vectors of the model itself."""
        transformer: Any = getattr(self.model[0], "auto_model", None)
        if not can_pack(transformer):
            return None
        packed = PackedTransformer(transformer, torch.bfloat16 if self.precision == "bf16" else torch.float32)
        try:
            vectors = self._packed_vectors(packed, self._tokenize(0, PROBES))
        except (RuntimeError, KeyError):
            return None
        expected = self._by_the_model(list(PROBES))
        cosines = torch.nn.functional.cosine_similarity(vectors.float(), expected.float())
        return packed if bool((cosines >= MIN_COSINE[self.precision]).all()) else None


def _own_tokenizer(model: SentenceTransformer) -> Tokenizer:
    """A copy of the model's tokenizer that cuts at its maximum length and does not pad."""
    tokenizer = Tokenizer.from_str(model.tokenizer.backend_tokenizer.to_str())
    tokenizer.no_padding()
    tokenizer.enable_truncation(int(model.max_seq_length or model.tokenizer.model_max_length))
    return tokenizer


def _to_device(ids: Tensor, device: torch.device) -> Tensor:
    return ids.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else ids.to(device)


def _is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
