"""Caches: the plain way of encoding against `SentenceTransformer.encode` and ours, and what a refresh costs.

The plain way is AutoModel in file order, padded batches of 128, fp32. All on one core and the same texts, real ones
where they are at hand, in turns within one process; the peak of the matrix product is measured in the same run.
"""

import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import msgspec
import numpy as np
import polars as pl
import torch
from sentence_transformers import SentenceTransformer

from benchmarks.inputs import KIND, read_inputs
from personarank_dagster.core import schemas
from personarank_dagster.core.aspects import aspect_columns
from personarank_dagster.core.encoders import BUNDLED_NAME, EncoderInfo
from personarank_dagster.core.histories import liked_interactions
from personarank_dagster.defs.caches.build import CacheBuilder
from personarank_dagster.defs.graph import output_format
from personarank_dagster.defs.platform.lineage.snapshots import Sight, Snapshot
from personarank_dagster.defs.platform.mounts import Mount
from personarank_dagster.defs.platform.resources import Advance, GpuResource, ProgressResource, ProjectResource
from personarank_dagster.defs.platform.steps import Step
from personarank_dagster.encoding.encoder import base_of, encode, load_model, model_fingerprint
from personarank_dagster.encoding.engine import Precision
from personarank_dagster.storage.encoder_directory import EncoderDirectory
from personarank_dagster.vectors.embeddings import INDEX, read_embeddings
from personarank_dagster.vectors.mapped_cache import VECTORS, MappedCache, open_cache, write_lookup
from tests.tiny_models import write_tiny_model

TEXTS, ROUNDS, BATCH, REFRESHED_TEXTS = 128, 3, 128, 1_000
LARGE_TEXTS, LARGE_ROWS, LARGE_DIMENSION = 2_000_000, 10_000_000, 384

Encode = Callable[[SentenceTransformer, list[str]], np.ndarray]


def main() -> None:
    """Encode on one core, in a process of its own."""
    _child("encoding")


def encoding() -> None:
    torch.set_num_threads(1)
    has_bf16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    peaks: dict[Precision, list[float]] = {"fp32": [], **({"bf16": []} if has_bf16 else {})}
    ways: dict[str, Encode] = {"plain": _plain, "SentenceTransformer.encode": _encode}
    ways |= {f"ours, {name}": _ours(name) for name in peaks}
    model = load_model(BUNDLED_NAME, max_len=512, device="cpu")
    for name, texts in _texts().items():
        _compare(name, model, texts[:TEXTS], ways, peaks)
    for precision, found in peaks.items():
        print(f"peak of the matrix product, {precision}: {statistics.median(found) / 1e9:.0f} GFLOP/s")


def _compare(
    name: str,
    model: SentenceTransformer,
    texts: list[str],
    ways: dict[str, Encode],
    peaks: dict[Precision, list[float]],
) -> None:
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    vectors: dict[str, np.ndarray] = {}
    for _ in range(ROUNDS):
        for way, run in ways.items():
            started = time.perf_counter()
            vectors[way] = run(model, texts)
            seconds[way].append(time.perf_counter() - started)
        for precision, found in peaks.items():
            found.append(_peak(precision))
    operations, tokens = _operations(model, texts)
    print(f"{name}: {len(texts)} texts, {tokens / len(texts):.0f} tokens each; medians of {ROUNDS} rounds")
    for way in ways:
        speed = len(texts) / statistics.median(seconds[way])
        ratio = statistics.median(plain / own for plain, own in zip(seconds["plain"], seconds[way], strict=True))
        peak = statistics.median(peaks["bf16" if way.endswith("bf16") else "fp32"][-ROUNDS:])
        share = operations / statistics.median(seconds[way]) / peak
        cosine = (vectors[way] * vectors["plain"]).sum(axis=1).min()
        print(f"{way}: {speed:.1f} texts/s, {ratio:.2f} times, {share:.0%} of the peak, least cosine {cosine:.6f}")


def _plain(model: SentenceTransformer, texts: list[str]) -> np.ndarray:
    transformer, parts = model[0].auto_model, []
    with torch.inference_mode():
        for begin in range(0, len(texts), BATCH):
            batch = texts[begin : begin + BATCH]
            features = model.tokenizer(batch, padding=True, truncation=True, max_length=512, return_tensors="pt")
            hidden = transformer(**features).last_hidden_state
            mask = features["attention_mask"].unsqueeze(-1).float()
            pooled = (hidden * mask).sum(dim=1) / mask.sum(dim=1)
            parts.append(torch.nn.functional.normalize(pooled, dim=1).numpy())
    return np.concatenate(parts)


def _encode(model: SentenceTransformer, texts: list[str]) -> np.ndarray:
    return model.encode(texts, show_progress_bar=False)


def _ours(precision: Precision) -> Encode:
    return lambda model, texts: encode(model, texts, precision=precision)


def _operations(model: SentenceTransformer, texts: list[str]) -> tuple[float, int]:
    """Useful floating point operations, without padding, and the number of tokens."""
    config = model[0].auto_model.config
    lengths = np.array([len(ids) for ids in model.tokenizer(texts, truncation=True, max_length=512)["input_ids"]])
    width, layers = config.hidden_size, config.num_hidden_layers
    linear = 2 * layers * (4 * width**2 + 2 * width * config.intermediate_size)
    return float((linear * lengths + 4 * layers * width * lengths**2).sum()), int(lengths.sum())


def _peak(precision: Precision) -> float:
    """Best of several products of the shape of a wide layer."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    rows, weight = torch.randn(2_048, 1_024).to(dtype), torch.randn(4_096, 1_024).to(dtype)
    best = 0.0
    for _ in range(8):
        started = time.perf_counter()
        torch.nn.functional.linear(rows, weight)
        best = max(best, 2 * 2_048 * 1_024 * 4_096 / (time.perf_counter() - started))
    return best


def _texts() -> dict[str, list[str]]:
    """Texts of both caches, as both datasets have them."""
    found = {}
    for name in ("amazon", "yelp"):
        inputs = read_inputs(name)
        liked = liked_interactions(inputs.histories, min_rating=inputs.config.train.min_rating)
        template = inputs.config.template
        found[f"{name} interactions ({KIND})"] = template.interaction_texts(liked).to_list()
        found[f"{name} personas ({KIND})"] = template.persona_texts(inputs.personas).to_list()
    return found


def refresh() -> None:
    """A cache of real interactions built, then after one in a hundred changed, then after nothing changed."""
    _child("refreshes")


def refreshes() -> None:
    inputs = read_inputs("amazon")
    max_len = inputs.config.train.max_len
    liked = liked_interactions(inputs.histories, min_rating=inputs.config.train.min_rating).head(REFRESHED_TEXTS)
    changed = pl.int_range(pl.len()) % 100 == 0
    summaries = pl.when(changed).then(pl.col("item_summary") + " again").otherwise("item_summary")
    edited = liked.with_columns(item_summary=summaries)
    info = _info(BUNDLED_NAME, "head", max_len)
    with tempfile.TemporaryDirectory() as folder:
        build = _builder(Path(folder), f"model: {BUNDLED_NAME}").interactions
        whole = 0.0
        for name, rows in {"all": liked, "one in a hundred changed": edited, "nothing changed": edited}.items():
            started = time.perf_counter()
            _, counts = build(rows, EncoderDirectory(Path(), info))
            seconds = time.perf_counter() - started
            whole = whole or seconds
            encoded = f"{counts['encoded']} of {counts['distinct_texts']} encoded"
            print(f"{name}: {encoded}, {seconds:.2f} s, {seconds / whole:.1%}", flush=True)
    started = time.perf_counter()
    load_model(BUNDLED_NAME, max_len=max_len, device="cpu")
    print(f"loading the model, a part of the first two: {time.perf_counter() - started:.2f} s")


def large() -> None:
    """A cache of two million short texts by a tiny encoder, and one of ten million rows that is only opened."""
    for way in ("build", "open"):
        _child(way)


def build() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        words = [f"w{number}" for number in range(2_000)]
        model = write_tiny_model(folder, words)
        encoder = EncoderDirectory(Path(model), _info(model, "full", 32))
        builder = _builder(folder)
        liked = _short_interactions(words)
        before, started = _peak_memory(), time.perf_counter()
        table, counts = builder.interactions(liked, encoder)
        output = output_format("interaction_cache", "amazon")
        output.check("interaction_cache", table)
        output.version_of(table)
        output.write(table, folder)
        print(
            f"{counts['encoded']:,} distinct of {liked.height:,} short texts: {time.perf_counter() - started:.0f} s, "
            f"peak {_peak_memory() / 1e3:.2f} GB, of which {before / 1e3:.2f} GB before it"
        )


class _NoProgress(ProgressResource):
    """The real one shows numbers on the page of an asset, and here is none."""

    @contextmanager
    def track(self, *_: object, **__: object) -> Iterator[Advance]:
        yield lambda count: None


def _builder(folder: Path, more_settings: str = "") -> CacheBuilder:
    """One whose outputs are below the folder; `more_settings` are those of rerank.yaml."""
    shutil.copytree("configs/amazon", folder / "configs/amazon")
    with (folder / "configs/amazon/rerank.yaml").open("a") as settings:
        settings.write(more_settings)
    os.environ |= {"PERSONARANK_CONFIG_DIR": str(folder / "configs"), "PERSONARANK_OUT_ROOT": str(folder / "out")}
    project = ProjectResource(mount=Mount())
    begun_with = Snapshot(
        partition="amazon",
        outputs=project.outputs("amazon"),
        dataset=project.dataset("amazon"),
        contents={},
        versions={},
    )
    step = Step(dg.build_asset_context(partition_key="amazon"), Sight(project, begun_with, run_id=""))
    gpu = GpuResource(device="auto", devices=1, precision="auto", memory_share=1.0)
    return CacheBuilder(step, gpu, _NoProgress(terminal=False))


def _info(model: str, tune: str, max_len: int) -> EncoderInfo:
    """Of an encoder that nothing was learned for."""
    loaded = load_model(model, max_len=max_len, device="cpu")
    fingerprint = model_fingerprint(base_of(loaded))
    about = {"st_path": model, "tune": tune, "max_len": max_len, "dimension": len(encode(loaded, ["lamp"])[0])}
    return msgspec.convert(about | {"base_fingerprint": fingerprint, "fingerprint": fingerprint}, EncoderInfo)


def open_large() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_large(folder)
        started = time.perf_counter()
        cache = open_cache(folder)
        opened = time.perf_counter()
        profiles = [_seconds_of_profile(cache, user) for user in range(0, LARGE_ROWS // 10, LARGE_ROWS // 1_000)]
        table_started = time.perf_counter()
        read_embeddings(folder)
        whole = time.perf_counter() - table_started
        middle, first = statistics.median(profiles), profiles[0]
        print(
            f"{LARGE_ROWS:,} rows: opened in {(opened - started) * 1e3:.1f} ms, a profile in {middle * 1e3:.2f} ms, "
            f"the first in {first * 1e3:.2f} ms; the whole index read as a table in {whole:.2f} s"
        )


def _seconds_of_profile(cache: MappedCache, user: int) -> float:
    started = time.perf_counter()
    cache.profile(f"user{user:08d}", k=10, gamma=0.65)
    return time.perf_counter() - started


def _write_large(folder: Path) -> None:
    """A matrix of zeros, which takes no space on the disk but the vectors of every hundredth user, with its index."""
    rows = np.arange(LARGE_ROWS, dtype=np.uint32)
    matrix = np.lib.format.open_memmap(
        folder / VECTORS, mode="w+", dtype=np.float16, shape=(LARGE_ROWS, LARGE_DIMENSION)
    )
    matrix[:: LARGE_ROWS // 1_000] = 1 / np.sqrt(LARGE_DIMENSION)
    users = pl.select(pl.format("user{}", pl.lit(pl.Series(rows // 10)).cast(pl.String).str.zfill(8))).to_series()
    columns = {"user_id": users, "item_id": users, "age": 9 - rows % 10, "vector_row": rows}
    missing = {"rating": pl.lit(5.0), "timestamp": pl.lit(0).cast(schemas.TIMESTAMP)}
    index = pl.DataFrame(columns).with_columns(**missing).select(schemas.INTERACTION_INDEX.keys())
    index.cast(dict(schemas.INTERACTION_INDEX)).write_parquet(folder / INDEX)
    write_lookup(folder, index)


def _short_interactions(words: list[str]) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    rows = np.arange(LARGE_TEXTS)
    parts = [pl.Series(np.array(words)[rng.integers(0, len(words), LARGE_TEXTS)]) for _ in range(4)]
    summaries = pl.select(pl.concat_str(parts, separator=" ")).to_series()
    aspects = {column: pl.lit(None, dtype=pl.String) for column in aspect_columns("amazon")}
    return pl.DataFrame({"user_id": np.char.mod("u%07d", rows // 10), "item_id": summaries}).with_columns(
        rating=pl.lit(5.0),
        timestamp=pl.lit(0).cast(schemas.TIMESTAMP),
        age=pl.Series((9 - rows % 10).astype(np.uint32)),
        item_summary=pl.col("item_id"),
        **aspects,
    )


def _peak_memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def _child(way: str) -> None:
    cores = sorted(os.sched_getaffinity(0))[:1]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, "-m", "benchmarks.caches", way]
    subprocess.run(command, check=True, env=environment, preexec_fn=lambda: os.sched_setaffinity(0, cores))


if __name__ == "__main__":
    {"encoding": encoding, "refreshes": refreshes, "build": build, "open": open_large}[sys.argv[1]]()
