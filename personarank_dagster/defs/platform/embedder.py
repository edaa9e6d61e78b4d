"""Encode texts once: look their base vectors up, encode what is missing, apply the head of their side."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import polars as pl

from personarank_dagster.core.encoders import ENGINE, BaseModel, EncodedTexts, Precision, Side
from personarank_dagster.core.profiles import FloatArray, IntArray, unit_rows
from personarank_dagster.defs.platform.compute import ComputeResource, this_machine
from personarank_dagster.defs.platform.exchanges import exchange_of
from personarank_dagster.defs.platform.resources import Advance, GpuResource, ProgressResource
from personarank_dagster.defs.platform.steps import Step
from personarank_dagster.storage.scratch import ScratchFolder
from personarank_dagster.vectors.matrices import Float16Array, row_parts, save_matrix
from personarank_dagster.vectors.text_keys import KeyArray, distinct_rows, text_keys
from personarank_dagster.vectors.vector_store import VectorStore

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

# What the progress is called.
TASKS: dict[Side, str] = {"query": "encoding interactions", "document": "encoding personas"}


@dataclass(frozen=True)
class Embedded:
    """Distinct texts with their base vectors in a store, the row of each text among them, and what it cost."""

    store: VectorStore
    keys: KeyArray
    places: IntArray
    rows: IntArray
    encoded: int
    seconds: float

    @property
    def counts(self) -> dict[str, int | float]:
        """Numbers for the metadata."""
        speed = {"encoding_seconds": self.seconds, "texts_per_second": self.encoded / self.seconds}
        return {
            "texts": len(self.rows),
            "distinct_texts": len(self.keys),
            "reused": len(self.keys) - self.encoded,
            "encoded": self.encoded,
            "truncated_share": self.truncated_share,
            **(speed if self.encoded else {}),
        }

    @property
    def truncated_share(self) -> float:
        """Share of the distinct texts that are longer than the encoder reads."""
        return float(self.store.cut(self.places).mean()) if len(self.places) else 0.0

    def parts(self, head: npt.NDArray[np.float32] | None) -> Iterator[FloatArray]:
        """Unit vectors of the distinct texts, in parts, after the linear map of their side."""
        for part in row_parts(len(self.places)):
            base = self.store.vectors(self.places[part]).astype(np.float32)
            yield base if head is None else unit_rows(base @ head.T)

    def mapped(self, head: npt.NDArray[np.float32] | None, scratch: ScratchFolder) -> Float16Array:
        """Unit vectors of the distinct texts, memory-mapped from a file of the scratch folder."""
        path = scratch.path / "vectors.npy"
        dimension = self.store.vectors(self.places[:0]).shape[1] if head is None else len(head)
        with path.open("wb") as file:
            save_matrix(file, self.parts(head), (len(self.places), dimension))
        vectors: Float16Array = np.load(path, mmap_mode="r", allow_pickle=False)
        return vectors


@dataclass(frozen=True)
class Embedder:
    """Gives vectors of texts, by whichever encoder it is called with, and shows the progress."""

    step: Step
    gpu: GpuResource
    progress: ProgressResource
    compute: ComputeResource = field(default_factory=this_machine)

    def by_model(
        self, texts: pl.Series, model: "SentenceTransformer", fingerprint: str, side: Side
    ) -> tuple[FloatArray, IntArray]:
        """Vectors of the distinct texts by the loaded model of `train.yaml`, and the row of each text."""
        train = self.step.config.train
        base = BaseModel(train.st_path, train.max_len, fingerprint, train.st_revision)
        embedded = self.embed(texts, base, side, loaded=model)
        return embedded.store.vectors(embedded.places).astype(np.float32), embedded.rows

    @property
    def precision(self) -> Precision:
        """Precision of the vectors."""
        return self.compute.encoding_precision(self.gpu)

    def embed(
        self, texts: pl.Series, base: BaseModel, side: Side, *, loaded: "SentenceTransformer | None" = None
    ) -> Embedded:
        """Have the base vectors of all texts in the store; the model is loaded only if one is missing.

        A text is kept under its hash alone, though each side has its prompt: the template begins the texts of the
        sides differently.
        """
        keys = text_keys(texts)
        first, rows = distinct_rows(keys)
        store = self.step.outputs.vectors(store_name(base, self.precision))
        missing = first[store.places(keys[first]) < 0]
        started = time.monotonic()
        if len(missing):
            with self.progress.track(self.step.context, TASKS[side], len(missing)) as advance:
                self._encode(texts.gather(missing), keys[missing], base, side, store, advance, loaded)
            store.reload()
            store.join_blocks()
        places = store.places(keys[first])
        return Embedded(store, keys[first], places, rows, len(missing), time.monotonic() - started)

    def _encode(
        self,
        texts: pl.Series,
        keys: KeyArray,
        base: BaseModel,
        side: Side,
        store: VectorStore,
        advance: Advance,
        loaded: "SentenceTransformer | None",
    ) -> None:
        config, precision = self.step.config, self.precision
        if cluster := self.compute.cluster():
            from personarank_dagster.distributed.encoding import EncodingTask, encode_on_ray

            with exchange_of(self.step) as (exchange, _):
                task = EncodingTask(base, side, store.folder, exchange, precision, cluster.device, cluster.threads)
                encode_on_ray(texts, keys, task, cluster, advance)
            return
        devices = self.gpu.torch_devices(config.rerank.num_gpus)
        if len(devices) > 1:
            from personarank_dagster.encoding.processes import encode_in_processes

            scratch = ScratchFolder(config.data.out_root / "scratch")
            encode_in_processes(texts, keys, base, side, store.folder, devices, precision, scratch.path, advance)
            scratch.close()
            return

        def encode(windows: Iterable[list[str]]) -> Iterator[EncodedTexts]:
            from personarank_dagster.encoding.encoder import load_base
            from personarank_dagster.encoding.engine import Engine

            for encoded in Engine(loaded or load_base(base, devices[0]), precision, side).stream(windows):
                yield encoded
                advance(len(encoded.places))

        store.add_texts(texts, keys, encode)


def store_name(base: BaseModel, precision: Precision) -> str:
    """Name of the store of a model's vectors. Vectors of another precision or engine are other vectors."""
    return f"{base.fingerprint}-{precision}-{ENGINE}"
