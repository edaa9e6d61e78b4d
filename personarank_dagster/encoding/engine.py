"""The one encoding engine: texts in, unit vectors out, near the arithmetic limit of the machine.

Texts are tokenised once, in windows, in threads of their own; batches are cut from them by a budget of tokens,
similar lengths together (see `tokens`). Where the model allows it they run packed (see `packed`), else padded,
as sentence-transformers does it. Pooling and whatever follows it is the model's own. A GPU is given the next batch
before the vectors of the last one are asked for, so that it never waits.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor

from personarank_dagster.core.encoders import EncodedTexts, Side
from personarank_dagster.core.profiles import unit_rows
from personarank_dagster.encoding.attention import Layout
from personarank_dagster.encoding.packed import PackedTransformer, can_pack, pooled
from personarank_dagster.encoding.tokens.batches import Batch, text_reader

Precision = Literal["fp32", "bf16"]

# Tokens of a batch: on a CPU few enough for its caches, on a GPU enough to fill it.
CPU_TOKENS, GPU_TOKENS = 4_096, 131_072

# Batches that a GPU has been given and whose vectors nobody has asked for yet.
GPU_AHEAD = 2

# What the packed way must agree with before it is used; with the lengths that go wrong first.
PROBES = (
    "lamp",
    " A warm, dark GUITAR tone\nfor small rooms ",
    "query: [UserProfile-Interaction] 12.5 naïve café " * 12,
)
MIN_COSINE: dict[Precision, float] = {"fp32": 0.99999, "bf16": 0.999}


class Engine:
    """Encodes texts of one side with one model, whose weights and settings it leaves as they are."""

    def __init__(self, model: SentenceTransformer, precision: Precision = "fp32", side: Side = "document") -> None:
        self.model, self.precision = model, precision
        on_gpu = model.device.type == "cuda"
        self.budget, self.ahead = (GPU_TOKENS, GPU_AHEAD) if on_gpu else (CPU_TOKENS, 0)
        self.prompt = model.prompts.get(side) or ""
        self.reader = text_reader(model, self.prompt)
        self.packed = self._pack()

    @property
    def way(self) -> Literal["packed", "padded"]:
        """How batches are computed."""
        return "packed" if self.packed else "padded"

    def stream(self, windows: Iterable[Sequence[str]]) -> Iterator[EncodedTexts]:
        """Vectors of the texts of all windows, batch by batch; places count the texts of all windows from 0.

        Where texts come sorted by length, batches are full. When memory runs out, the budget is halved for good.
        """
        begun: deque[_Begun] = deque()
        for batch in self._batches(windows):
            begun.extend(self._begin(batch))
            while len(begun) > self.ahead:
                yield begun.popleft().finished()
        for one in begun:
            yield one.finished()

    def _batches(self, windows: Iterable[Sequence[str]]) -> Iterator[Batch]:
        for rest in self.reader.windows(windows):
            while rest.texts:
                number = rest.within(self.budget)
                yield rest.part(0, number)
                rest = rest.part(number)

    def _begin(self, batch: Batch) -> Iterator["_Begun"]:
        try:
            vectors = self._packed_vectors(self.packed, batch) if self.packed else self._padded_vectors(batch)
        except RuntimeError as error:
            if len(batch.texts) == 1 or not _is_out_of_memory(error):
                raise
            self.budget = max(1, self.budget // 2)
        else:
            yield _begun(batch, vectors.float())
            return
        half = len(batch.texts) // 2
        yield from self._begin(batch.part(0, half))
        yield from self._begin(batch.part(half))

    @torch.inference_mode()
    def _packed_vectors(self, transformer: PackedTransformer, batch: Batch) -> Tensor:
        hidden = transformer(batch.ids, batch.lengths).float()
        layout = Layout(batch.lengths, hidden.device)
        if hidden.device.type == "cuda":
            return pooled(self.model, layout.padded(hidden), layout.mask)
        runs = [hidden[rows].view(number, length, -1) for rows, number, length in layout.runs]
        return torch.cat([pooled(self.model, run, torch.ones(run.shape[:2], dtype=torch.bool)) for run in runs])

    def _padded_vectors(self, batch: Batch) -> Tensor:
        with torch.autocast(self.model.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16"):
            return self._by_the_model(batch.texts)

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
        probes = self.reader.read(PROBES)
        try:
            vectors = self._packed_vectors(packed, probes)
        except (RuntimeError, KeyError):
            return None
        expected = self._by_the_model(probes.texts)
        cosines = torch.nn.functional.cosine_similarity(vectors.float(), expected.float())
        return packed if bool((cosines >= MIN_COSINE[self.precision]).all()) else None


@dataclass(frozen=True)
class _Begun:
    """A batch whose vectors (texts, dimension) are on their way from the device."""

    batch: Batch
    vectors: Tensor
    arrived: torch.cuda.Event | None

    def finished(self) -> EncodedTexts:
        """Wait for them."""
        if self.arrived:
            self.arrived.synchronize()
        return EncodedTexts(self.batch.places, unit_rows(self.vectors.numpy()), self.batch.cut)


def _begun(batch: Batch, vectors: Tensor) -> _Begun:
    if vectors.device.type != "cuda":
        return _Begun(batch, vectors.cpu(), None)
    on_host = vectors.to("cpu", non_blocking=True)
    arrived = torch.cuda.current_stream(vectors.device).record_event()
    return _Begun(batch, on_host, arrived)


def _is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
