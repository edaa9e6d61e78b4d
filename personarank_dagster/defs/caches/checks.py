"""Checks of the two caches, after they were published: whole, by one encoder, and by an encoder that is sound."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from personarank_dagster.core.encoders import BaseModel, Side
from personarank_dagster.core.errors import ContractError
from personarank_dagster.core.histories import liked_interactions
from personarank_dagster.core.profiles import FloatArray, IntArray, unit_rows
from personarank_dagster.defs.platform.declarations import Check, Found
from personarank_dagster.defs.platform.published_checks import Published
from personarank_dagster.ranking.ranker import VectorTable
from personarank_dagster.storage.encoder_directory import open_encoder
from personarank_dagster.storage.versions import Staged, Version
from personarank_dagster.vectors.embeddings import TEXT_KEYS, MadeWith, check_embeddings, made_with, read_embeddings
from personarank_dagster.vectors.matrices import Float16Array, read_array
from personarank_dagster.vectors.text_keys import KeyArray, text_keys

# Vectors that are compared with each other, and texts that are encoded again.
COMPARED_VECTORS, ENCODED_TEXTS = 1_024, 4
# Cosine above which vectors of different texts count as the same, and how many may have such a neighbour.
SAME_COSINE, MAX_SAME_SHARE = 0.9999, 0.01
# How far a number of a vector that is encoded again may be from what is stored: rounding to fp16, and bf16 before it.
MAX_DIFFERENCE = {"fp32": 2e-3, "bf16": 2e-2}


@dataclass(frozen=True)
class CacheSubject(Published):
    """A published cache of one dataset."""

    asset: str = ""

    @property
    def cache(self) -> Version | Staged:
        """The version."""
        return self.version(self.asset)

    @property
    def embeddings(self) -> VectorTable:
        """Its vectors and index."""
        return read_embeddings(self.cache.directory)

    @property
    def keys(self) -> KeyArray | None:
        """Keys of its texts; None for an external cache."""
        path = self.cache.directory / TEXT_KEYS
        return read_array(path) if path.exists() else None

    def rows(self) -> pl.DataFrame:
        """What it was made from: liked interactions, or personas."""
        source = "histories" if self.asset == "interaction_cache" else "personas"
        rows = self.table(source).collect()
        if source == "personas":
            return rows
        return liked_interactions(rows, min_rating=self.config.train.min_rating)


def vectors_are_unit(subject: CacheSubject) -> Found:
    """Every vector is finite and of length 1, within what fp16 can hold."""
    table = subject.embeddings
    try:
        check_embeddings(subject.asset, table)
    except ContractError as error:
        return Found(False, {"note": str(error)})
    return Found(True, {"vectors": len(table.vectors)})


def index_agrees_with_the_matrix(subject: CacheSubject) -> Found:
    """Each row of the index points to a vector, each vector is pointed to, and has the key of one text."""
    return index_agrees(subject.embeddings, subject.keys)


def index_agrees(table: VectorTable, keys: KeyArray | None) -> Found:
    """See above, of a table and its keys."""
    rows, vectors = table.vector_rows, len(table.vectors)
    used = len(np.unique(rows[rows < vectors]))
    numbers = {"vectors": vectors, "used": used, "beyond": int((rows >= vectors).sum())}
    distinct = vectors if keys is None else len(np.unique(keys, axis=0))
    whole = used == vectors and not numbers["beyond"] and (keys is None or len(keys) == vectors == distinct)
    return Found(whole, numbers | {"distinct_texts": distinct})


def covers_what_it_is_made_from(subject: CacheSubject) -> Found:
    """The cache holds the users, or items, that its input has: at least `min_coverage` of them."""
    key = "user_id" if subject.asset == "interaction_cache" else "item_id"
    return covers(subject.embeddings, subject.rows(), key, subject.config.data.min_coverage)


def covers(table: VectorTable, rows: pl.DataFrame, key: str, min_coverage: float) -> Found:
    """See above, of a table and the rows that it was made from."""
    wanted = rows.select(key).unique()
    covered = wanted.join(table.index.select(key).unique(), on=key, how="semi").height
    share = covered / wanted.height if wanted.height else 1.0
    return Found(share >= min_coverage, {"covered": covered, "total": wanted.height, "share": share})


def does_not_collapse(subject: CacheSubject) -> Found:
    """Different texts have different vectors: hardly any has another within a cosine of 0.9999."""
    vectors = subject.embeddings.vectors
    sample = np.random.default_rng(0).choice(len(vectors), min(len(vectors), COMPARED_VECTORS), replace=False)
    return differ(vectors[np.sort(sample)].astype(np.float32))


def differ(vectors: FloatArray) -> Found:
    """See above, of some vectors of different texts."""
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -1)
    nearest = cosines.max(axis=1, initial=-1)
    share = float((nearest > SAME_COSINE).mean()) if len(vectors) > 1 else 0.0
    return Found(share <= MAX_SAME_SHARE, {"compared": len(vectors), "same_share": share})


def matches_its_encoder(subject: CacheSubject) -> Found:
    """A few texts, encoded again by the encoder and its head, give what is stored."""
    keys, about = subject.keys, made_with(subject.cache)
    if keys is None:
        return Found(True, {"note": "an external cache: its encoder is not here"})
    texts, stored = _sample(subject, keys)
    encoded = _encode(subject, about, texts)
    precision = about.vectors.split("-")[1]
    return equals(encoded, stored, MAX_DIFFERENCE[precision])


def equals(encoded: FloatArray, stored: Float16Array, tolerance: float) -> Found:
    """See above, of vectors."""
    difference = float(np.abs(encoded - stored.astype(np.float32)).max(initial=0))
    return Found(difference <= tolerance, {"texts": len(stored), "largest_difference": difference})


def are_by_one_encoder(about: list[MadeWith]) -> Found:
    """Both caches are by one encoder, text template and mode, so that cosines between them mean something."""
    names = {
        f"{asset} {key}": value for asset, one in zip(CACHE_SIDES, about, strict=True) for key, value in _said(one)
    }
    return Found(len({one.space for one in about}) == 1, names)


def _said(one: MadeWith) -> list[tuple[str, str]]:
    return [("encoder", one.encoder), ("template", one.template_version), ("mode", one.mode)]


def _sample(subject: CacheSubject, keys: KeyArray) -> tuple[list[str], Float16Array]:
    """Some texts, spread over the input, with their vectors."""
    rows = subject.rows()
    some = rows.gather_every(max(1, rows.height // ENCODED_TEXTS)).head(ENCODED_TEXTS)
    template = subject.config.template
    interactions = subject.asset == "interaction_cache"
    texts = template.interaction_texts(some) if interactions else template.persona_texts(some)
    wanted = text_keys(texts)
    places: IntArray = np.array([np.flatnonzero((keys == key).all(axis=1))[0] for key in wanted], dtype=np.int64)
    return texts.to_list(), subject.embeddings.vectors[places]


def _encode(subject: CacheSubject, about: MadeWith, texts: list[str]) -> FloatArray:
    from personarank_dagster.encoding.encoder import encode, load_base

    trained = open_encoder(subject.version("trained_encoder").directory)
    by_trained = about.encoder == trained.info.fingerprint
    source = str(trained.path) if by_trained else about.model
    fingerprint = trained.info.base_fingerprint if by_trained else about.encoder
    base = BaseModel(source, about.max_len, fingerprint, subject.config.revision_of(source))
    side = CACHE_SIDES[subject.asset]
    model = load_base(base, subject.gpu.torch_device())
    vectors = encode(model, texts, side=side, precision=subject.gpu.encoding_precision())
    head = trained.head(side) if by_trained else None
    return vectors if head is None else unit_rows(vectors @ head.T)


CACHE_SIDES: dict[str, Side] = {"interaction_cache": "query", "persona_cache": "document"}

# Those with which cosines would mean nothing judge a cache before it becomes current.
JUDGING = (vectors_are_unit, index_agrees_with_the_matrix, matches_its_encoder)
CHECKS: tuple[Callable[[CacheSubject], Found], ...] = (*JUDGING, covers_what_it_is_made_from, does_not_collapse)


def checks_of(asset: str) -> tuple[Check, ...]:
    """The checks that both caches have, of one of them."""
    return tuple(_cache_check(asset, find) for find in CHECKS)


def _cache_check(asset: str, find: Callable[[CacheSubject], Found]) -> Check:
    return Check(
        name=f"{asset}_{find.__name__}",
        asset=asset,
        find=lambda found: find(CacheSubject(found.sight, found.gpu, found.judged, asset)),
        description=find.__doc__,
        blocking=find in JUDGING,
    )


def _caches_are_by_one_encoder(published: Published) -> Found:
    return are_by_one_encoder([made_with(published.version(asset)) for asset in CACHE_SIDES])


caches_are_by_one_encoder = Check(
    name="caches_are_by_one_encoder",
    asset="persona_cache",
    find=_caches_are_by_one_encoder,
    description=are_by_one_encoder.__doc__,
    needs=("interaction_cache",),
)
