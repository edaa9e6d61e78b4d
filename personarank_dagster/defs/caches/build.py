"""Build the two caches: by the trained encoder, by another model, or from the files of the public scripts."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from personarank_dagster.configuration.dataset import DatasetConfig
from personarank_dagster.core import schemas
from personarank_dagster.core.encoders import BaseModel, Side
from personarank_dagster.core.texts import TEMPLATE_VERSION
from personarank_dagster.defs.platform.compute import ComputeResource, this_machine
from personarank_dagster.defs.platform.embedder import Embedded, Embedder
from personarank_dagster.defs.platform.lineage.snapshots import CACHE_MODEL
from personarank_dagster.defs.platform.resources import GpuResource, ProgressResource
from personarank_dagster.defs.platform.steps import Step
from personarank_dagster.storage.encoder_directory import EncoderDirectory
from personarank_dagster.storage.scratch import ScratchFolder
from personarank_dagster.vectors.embeddings import CacheTable, MadeWith
from personarank_dagster.vectors.external_caches import (
    check_one_external_encoder,
    read_external_interactions,
    read_external_personas,
)

Built = tuple[CacheTable, dict[str, Any]]


@dataclass(frozen=True)
class CacheBuilder:
    """Builds caches of one dataset."""

    step: Step
    gpu: GpuResource
    progress: ProgressResource
    compute: ComputeResource = field(default_factory=this_machine)

    @property
    def config(self) -> DatasetConfig:
        """Configuration of the dataset."""
        return self.step.config

    def interactions(self, liked: pl.DataFrame, encoder: EncoderDirectory) -> Built:
        """Cache of liked interactions, in their order, and the numbers of the metadata."""
        if self.config.rerank.use_external_caches:
            return read_external_interactions(self._external()[0], liked)
        texts = self.config.template.interaction_texts(liked)
        return self._build(texts, liked, schemas.INTERACTION_INDEX, encoder, "query")

    def personas(self, by_item: pl.DataFrame, encoder: EncoderDirectory) -> Built:
        """Cache of personas, in their order, and the numbers of the metadata."""
        if self.config.rerank.use_external_caches:
            return read_external_personas(self._external()[1], by_item)
        texts = self.config.template.persona_texts(by_item)
        return self._build(texts, by_item, schemas.PERSONA_INDEX, encoder, "document")

    def _external(self) -> tuple[Path, Path]:
        """Folders of the external caches of interactions and of personas, which must be by one encoder."""
        config = self.config
        folders = config.external_cache("ext_interaction_cache"), config.external_cache("ext_persona_cache")
        check_one_external_encoder(*folders)
        return folders

    def _build(
        self,
        texts: pl.Series,
        rows: pl.DataFrame,
        index: schemas.Schema,
        trained: EncoderDirectory,
        side: Side,
    ) -> Built:
        chosen = self._chosen(trained)
        embedded = Embedder(self.step, self.gpu, self.progress, self.compute).embed(texts, chosen.base, side)
        scratch = ScratchFolder(self.config.data.out_root / "scratch")
        vectors = embedded.mapped(None if chosen.is_base else trained.head(side), scratch)
        # The files are gone with the last use of the mapped vectors.
        scratch.close()
        table = CacheTable(
            vectors=vectors,
            index=rows.with_columns(vector_row=pl.Series(embedded.rows, dtype=pl.UInt32)).select(index.keys()),
            made_with=self._made_with(chosen, embedded, vectors.shape[1]),
            text_keys=embedded.keys,
        )
        return table, embedded.counts

    def _chosen(self, trained: EncoderDirectory) -> "Chosen":
        """The trained encoder, or `model` of rerank.yaml; it is loaded only to learn its fingerprint, if need be."""
        model, max_len, info = self.config.rerank.model, self.config.train.max_len, trained.info
        if model is None:
            return Chosen(BaseModel(str(trained.path), info.max_len, info.base_fingerprint), info.fingerprint)
        revision = self.step.revision_of(CACHE_MODEL)
        if info.tune == "head" and (info.st_path, info.max_len) == (model, max_len):
            base = BaseModel(model, max_len, info.base_fingerprint, revision)
            return Chosen(base, info.base_fingerprint, is_base=True)
        fingerprint = _fingerprint(BaseModel(model, max_len, "", revision), self.gpu.torch_device())
        return Chosen(BaseModel(model, max_len, fingerprint, revision), fingerprint, is_base=True)

    def _made_with(self, chosen: "Chosen", embedded: Embedded, dimension: int) -> MadeWith:
        template = self.config.template
        return MadeWith(
            encoder=chosen.fingerprint,
            model=self.config.rerank.model or self.config.train.st_path,
            dimension=dimension,
            max_len=chosen.base.max_len,
            template_version=TEMPLATE_VERSION + ("+item_id" if template.include_item_id else ""),
            mode="aspects" if template.with_aspects else "summary",
            fields=",".join(template.persona_fields),
            truncated_share=embedded.truncated_share,
            vectors=embedded.store.folder.name,
        )


@dataclass(frozen=True)
class Chosen:
    """The encoder that caches are built by: its base, the fingerprint of the whole, whether it is the base alone."""

    base: BaseModel
    fingerprint: str
    is_base: bool = False


def _fingerprint(base: BaseModel, device: str) -> str:
    from personarank_dagster.encoding.encoder import load_base, model_fingerprint

    return model_fingerprint(load_base(base, device))
