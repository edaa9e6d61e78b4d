"""Encode texts once: look their base vectors up, encode what is missing, apply the head of their side."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg
import numpy as np
import polars as pl

from personarank_dagster.core.encoders import Side
from personarank_dagster.core.profiles import FloatArray, IntArray, unit_rows
from personarank_dagster.defs.resources import GpuResource, ProgressResource, ProjectResource
from personarank_dagster.storage.encoder_directory import EncoderDirectory
from personarank_dagster.storage.vector_store import VectorStore

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


@dataclass(frozen=True)
class Embedded:
    """Vectors (distinct texts, dimension), the row of each text, and how many vectors were there already."""

    vectors: FloatArray
    rows: IntArray
    reused: int
    encoded: int

    @property
    def counts(self) -> dict[str, int]:
        """Numbers for the metadata."""
        return {
            "texts": len(self.rows),
            "distinct_texts": len(self.vectors),
            "reused": self.reused,
            "encoded": self.encoded,
        }


@dataclass(frozen=True)
class Embedder:
    """Gives vectors of texts, by whichever encoder it is called with, and shows the progress."""

    context: dg.AssetExecutionContext
    project: ProjectResource
    gpu: GpuResource
    progress: ProgressResource

    def by_model(
        self, texts: pl.Series, model: "SentenceTransformer", fingerprint: str, task: str
    ) -> tuple[FloatArray, IntArray]:
        """Vectors of the distinct texts by a loaded model without heads, and the row of each text."""
        embedded = self._embed(texts, lambda: model, fingerprint, task)
        return embedded.vectors, embedded.rows

    def by_encoder(self, texts: pl.Series, encoder: EncoderDirectory, side: Side, task: str) -> Embedded:
        """Vectors by a published encoder; it is loaded only if a text has no base vector yet."""
        embedded = self._embed(texts, lambda: self._load_base(encoder), encoder.info.base_fingerprint, task)
        head = encoder.head(side)
        vectors = embedded.vectors if head is None else unit_rows(embedded.vectors @ head.T)
        return Embedded(vectors, embedded.rows, embedded.reused, embedded.encoded)

    def _embed(
        self, texts: pl.Series, load: Callable[[], "SentenceTransformer"], fingerprint: str, task: str
    ) -> Embedded:
        distinct = texts.unique(maintain_order=True)
        rows = texts.replace_strict(distinct, np.arange(len(distinct)), return_dtype=pl.Int64).to_numpy()
        # Vectors of another precision are other vectors.
        name = f"{fingerprint}-{self.gpu.encoding_precision()}"
        store: VectorStore = self.project.vectors(self.context.partition_key, name)
        with self.progress.track(self.context, task, store.missing(distinct.to_list())) as advance:
            found = store.vectors_of(distinct.to_list(), lambda missing: self._encode(load(), missing, advance))
        return Embedded(found.vectors.astype(np.float32), rows, found.reused, found.encoded)

    def _encode(self, model: "SentenceTransformer", texts: list[str], advance: Callable[[int], None]) -> FloatArray:
        from personarank_dagster.encoding.encoder import encode

        return encode(model, texts, precision=self.gpu.encoding_precision(), on_texts=advance)

    def _load_base(self, encoder: EncoderDirectory) -> "SentenceTransformer":
        from personarank_dagster.encoding.encoder import base_of, load_model

        info = encoder.info
        return base_of(load_model(str(encoder.path), max_len=info.max_len, device=self.gpu.torch_device()))
