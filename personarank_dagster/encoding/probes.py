"""Vectors of a few texts, kept beside an encoder: what it must give again after it was loaded."""

from pathlib import Path

from sentence_transformers import SentenceTransformer

from personarank_dagster.core.encoders import Probes
from personarank_dagster.encoding.engine import PROBES


def probe(model: SentenceTransformer) -> Probes:
    """What sentence-transformers itself makes of the texts with this model, on either side."""
    texts = list(PROBES)
    query, document = (
        encode(texts, show_progress_bar=False) for encode in (model.encode_query, model.encode_document)
    )
    return Probes(texts, query.tolist(), document.tolist())


def reloaded_probes(directory: Path) -> Probes:
    """The same of a published encoder, loaded as its users load it, on the CPU."""
    return probe(SentenceTransformer(str(directory), device="cpu", local_files_only=True))
