"""On a GPU, as shares of the peak that is measured first: encoding against `SentenceTransformer.encode`.

An encoder of bge-m3's shape with random weights, and MiniLM, over the texts of real reviews where they are at hand.
The rival computes in bf16 too, with its best batch size. Operations count tokens of texts, not padding.
"""

import copy
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from transformers import XLMRobertaConfig, XLMRobertaModel

from benchmarks.gpu_ranking import ranking_rows
from benchmarks.gpu_training import training_rows
from benchmarks.inputs import CONFIGS, KIND, read_inputs
from personarank_dagster.command_line.console import run_and_report
from personarank_dagster.configuration.dataset import CONFIG_DIR_VARIABLE
from personarank_dagster.configuration.out_roots import OUT_ROOT_VARIABLE
from personarank_dagster.core.histories import liked_interactions
from personarank_dagster.core.profiles import unit_rows
from personarank_dagster.encoding.encoder import encode, load_model
from personarank_dagster.encoding.packed import PackedTransformer
from personarank_dagster.encoding.tokens.batches import text_reader

DEVICE = "cuda"
BATCH_SIZES, ROUNDS, COMPARED = (32, 128, 512), 2, 512
# The rival's share of the texts: it would take most of the time.
RIVAL_TEXTS = 2_048
# The shape of BAAI/bge-m3.
BGE_M3 = {
    "vocab_size": 250_002,
    "hidden_size": 1_024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4_096,
    "max_position_embeddings": 8_194,
    "type_vocab_size": 1,
    "pad_token_id": 1,
}


def main() -> None:
    """Print the peak, then the rows of each model."""
    if not torch.cuda.is_available():
        print("there is no GPU here: nothing was measured")
        return
    peak = matrix_peak()
    print(
        f"{torch.cuda.get_device_name()}, torch {torch.__version__}: bf16 peak {peak / 1e12:.0f} TFLOP/s", flush=True
    )
    for name, model, number, pairs in (
        ("MiniLM", minilm(), 262_144, 256),
        ("bge-m3's shape", bge_shaped(), 16_384, 1_024),
    ):
        encoding_rows(name, model, texts_of(number), peak)
        training_rows(name, model, pairs=pairs, peak=peak, work=partial(_operations, model), rivals=name == "MiniLM")
    print("\nranking", flush=True)
    ranking_rows(DEVICE)
    whole_graph()


def matrix_peak() -> float:
    """Operations a second of the product of two bf16 matrices of 8,192 x 8,192."""
    left, right = (torch.randn(8_192, 8_192, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
    return 2 * 8_192**3 / min(_seconds(lambda: torch.mm(left, right)) for _ in range(20))


def encoding_rows(name: str, model: SentenceTransformer, texts: list[str], peak: float) -> None:
    """Texts a second of `encode`, of the engine, and of the transformer alone."""
    operations, tokens = work(model, texts)
    print(f"\n{name}, {KIND} texts of {tokens / len(texts):.0f} tokens", flush=True)
    in_fp32 = encode(model, texts[:COMPARED])
    rivals = {f"encode, batch {size}": _rival(model, size) for size in BATCH_SIZES}
    ways = rivals | {"ours": lambda some: encode(model, some, precision="bf16")}
    rates = {way: _rate(run, texts if way == "ours" else texts[:RIVAL_TEXTS]) for way, run in ways.items()}
    best = max(rates[way] for way in rivals)
    for way, rate in rates.items():
        share = rate * operations / len(texts) / peak
        print(
            f"{way}: {rate:,.0f} texts/s, {rate * tokens / len(texts) / 1e6:.2f} M tokens/s, {share:.0%} of the peak"
        )
    computing = _computing(model, texts)
    cosine = (ways["ours"](texts[:COMPARED]) * in_fp32).sum(axis=1).min()
    print(
        f"ours {rates['ours'] / best:.1f} times encode; the transformer alone {computing:,.0f} texts/s, "
        f"{computing * operations / len(texts) / peak:.0%} of the peak; least cosine to fp32 {cosine:.5f}; "
        f"{torch.cuda.max_memory_allocated() / 1e9:.1f} GB",
        flush=True,
    )


def whole_graph() -> None:
    """Seconds of `personarank run` over the dataset amazon, from raw files to metrics."""
    with tempfile.TemporaryDirectory() as home:
        shutil.copy("dagster.yaml", home)
        places = {"DAGSTER_HOME": home, CONFIG_DIR_VARIABLE: str(CONFIGS), OUT_ROOT_VARIABLE: f"{home}/outputs"}
        os.environ |= places
        seconds = _seconds(lambda: run_and_report(["amazon"], select=None, force=False))
    print(f"\nthe whole graph, amazon ({KIND}): {seconds:.0f} s", flush=True)


def work(model: SentenceTransformer, texts: list[str]) -> tuple[float, int]:
    """Useful operations of encoding the texts, and their tokens."""
    lengths = text_reader(model).read(texts).lengths
    config = model[0].auto_model.config
    width, layers = config.hidden_size, config.num_hidden_layers
    linear = 2 * layers * (4 * width**2 + 2 * width * config.intermediate_size)
    return float((linear * lengths + 4 * layers * width * lengths**2).sum()), int(lengths.sum())


def _operations(model: SentenceTransformer, texts: list[str]) -> float:
    return work(model, texts)[0]


def bge_shaped() -> SentenceTransformer:
    """An encoder of bge-m3's shape with random weights and MiniLM's tokenizer."""
    tokenizer = minilm().tokenizer
    with tempfile.TemporaryDirectory() as folder:
        XLMRobertaModel(XLMRobertaConfig(**BGE_M3 | {"num_hidden_layers": 1, "hidden_size": 32})).save_pretrained(
            folder
        )
        tokenizer.save_pretrained(folder)
        transformer = Transformer(folder, max_seq_length=512)
    with torch.device(DEVICE):
        transformer.model = XLMRobertaModel(XLMRobertaConfig(**BGE_M3)).eval()
    return SentenceTransformer(modules=[transformer, Pooling(1_024, "cls")], device=DEVICE)


def minilm() -> SentenceTransformer:
    return load_model(read_inputs("amazon").config.train.st_path, max_len=512, device=DEVICE)


def texts_of(number: int) -> list[str]:
    """Texts of liked interactions, again from the first where they are too few."""
    inputs = read_inputs("amazon")
    liked = liked_interactions(inputs.histories, min_rating=inputs.config.train.min_rating)
    texts = inputs.config.template.interaction_texts(liked).to_list()
    return (texts * (number // len(texts) + 1))[:number]


def _rival(model: SentenceTransformer, batch_size: int) -> Callable[[list[str]], np.ndarray]:
    """`SentenceTransformer.encode` with weights in bf16."""
    halved = copy.deepcopy(model).to(torch.bfloat16)

    def run(texts: list[str]) -> np.ndarray:
        vectors = halved.encode(texts, batch_size=batch_size, convert_to_tensor=True, show_progress_bar=False)
        return unit_rows(vectors.float().cpu().numpy())

    return run


def _computing(model: SentenceTransformer, texts: list[str]) -> float:
    """Texts a second of the packed transformer, its tokens at hand, batch after batch."""
    from personarank_dagster.encoding.engine import GPU_TOKENS

    read = text_reader(model).read(texts[: 8 * GPU_TOKENS // 200])
    batch = read.part(0, read.within(GPU_TOKENS))
    transformer = PackedTransformer(model[0].auto_model, torch.bfloat16)
    with torch.inference_mode():
        return len(batch.texts) / min(_seconds(lambda: transformer(batch.ids, batch.lengths)) for _ in range(10))


def _rate(run: Callable[[list[str]], np.ndarray], texts: list[str]) -> float:
    run(texts[: len(texts) // 4])
    return len(texts) / statistics.median(_seconds(lambda: run(texts)) for _ in range(ROUNDS))


def _seconds(run: Callable[[], object]) -> float:
    torch.cuda.synchronize()
    started = time.perf_counter()
    run()
    torch.cuda.synchronize()
    return time.perf_counter() - started
