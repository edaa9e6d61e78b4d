"""Gradients of the cached, deduplicated, distributed loss against a loop over pairs that encodes text by text."""

import math
import socket
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as processes
from torch import Tensor
from torch.nn.functional import normalize
from torch.nn.parallel import DistributedDataParallel

from personarank_dagster.configuration.settings import TrainConfig
from personarank_dagster.core.profiles import Windows
from personarank_dagster.encoding.encoder import load_model
from personarank_dagster.encoding.training import activations, models
from personarank_dagster.encoding.training.activations import Activations
from personarank_dagster.encoding.training.batches import PairCollator, TrainingData
from personarank_dagster.encoding.training.models import EncoderModel, length_chunks
from personarank_dagster.encoding.training.ranks import end_rank

WORDS = ["the", "a", "red", "blue", "lamp", "chair", "desk", "query", "passage", "persona", "item"]
RNG = np.random.default_rng(3)
TEXTS = [" ".join(RNG.choice(WORDS, RNG.integers(1, 12))) for _ in range(14)]
PERSONA_TEXTS = [" ".join(RNG.choice(WORDS, RNG.integers(1, 12))) for _ in range(9)]
STARTS = np.array([0, 1, 4, 6, 9, 10, 11])
DATA = TrainingData(
    # Rows repeat: texts stand in several windows, and twice in one.
    text_rows=np.array([0, 1, 2, 2, 3, 4, 5, 1, 6, 7, 8, 9, 10, 0, 11, 13]),
    windows=Windows(STARTS, STARTS + np.array([4, 3, 3, 4, 1, 4, 5])),
    targets=np.array([0, 3, 3, 8, 5, 1, 6]),
    target_items=np.array([0, 1, 1, 3, 2, 0, 2]),
    users=np.array([0, 0, 1, 1, 2, 2, 3]),
    persona_items=np.array([0, 0, 0, 1, 1, 2, 2, 3, 3]),
    neighbours=np.array([[1, 2], [3, -1], [0, 2], [0, 1], [1, -1], [3, 1], [0, -1]]),
    nearness=np.zeros((7, 3), np.float32),
)
CASES = {
    "plain": {},
    "same user": {"mask_same_user": True},
    "same item": {"mask_same_item": True},
    "near positives": {"mask_percpos": True, "percpos_threshold": 0.9},
    "hard negatives": {"hard_negatives": 2, "mask_same_item": True},
    "all masks, smoothed": {
        "mask_same_user": True,
        "mask_same_item": True,
        "mask_percpos": True,
        "percpos_threshold": 0.9,
        "label_smoothing": 0.1,
    },
    "catalogue": {"negatives": "catalogue", "mask_same_item": True},
    "listwise": {"loss": "listwise", "mask_same_item": True},
    "listwise, catalogue": {"loss": "listwise", "negatives": "catalogue", "mask_same_item": True},
    "histories": {"pairs": "histories", "loss": "listwise"},
    "histories, catalogue": {"pairs": "histories", "loss": "listwise", "negatives": "catalogue"},
    "both": {"pairs": "both", "loss": "listwise", "negatives": "catalogue"},
    "listwise, all masks": {
        "loss": "listwise",
        "mask_same_item": True,
        "mask_same_user": True,
        "mask_percpos": True,
        "percpos_threshold": 0.9,
        "hard_negatives": 2,
    },
}


def config(**settings: object) -> TrainConfig:
    plain = {"mask_same_item": False, "negatives": "batch", "gamma": 0.6, "dropout": False, "tune": "full"}
    return msgspec.convert({"st_path": "tiny", **plain, **settings}, TrainConfig)


def new_model(settings: TrainConfig, model_path: str) -> EncoderModel:
    encoder = load_model(model_path, max_len=32, device="cpu")
    model = EncoderModel(DATA, settings, encoder, TEXTS, PERSONA_TEXTS)
    model.start_epoch(0)
    return model.train()


def naive_loss(model: EncoderModel) -> Tensor:
    """Pair by pair, every text encoded alone wherever it stands, the softmax written out."""
    settings, items = model.settings, DATA.persona_items.tolist()

    def vector(text: str) -> Tensor:
        return normalize(model.encoder(model.encoder.preprocess([text]))["sentence_embedding"][0], dim=0)

    total = torch.zeros(())
    for pair, target in enumerate(DATA.targets.tolist()):
        rows = range(DATA.windows.starts[pair], DATA.windows.ends[pair])
        weighted = [
            settings.gamma ** (DATA.windows.ends[pair] - 1 - row) * vector(TEXTS[DATA.text_rows[row]]) for row in rows
        ]
        profile = normalize(torch.stack(weighted).sum(dim=0), dim=0)
        compared = set(DATA.targets.tolist()) if settings.negatives == "batch" else range(len(PERSONA_TEXTS))
        if settings.pairs != "selections":
            # Of an item that is in the softmax all personas are.
            compared = {p for p in range(len(items)) if items[p] in {items[q] for q in compared}}
        score = {p: profile @ vector(PERSONA_TEXTS[p]) for p in sorted(compared)}
        if settings.pairs == "histories":
            target = max((p for p in score if items[p] == items[target]), key=lambda p: score[p])
        if settings.loss == "listwise":
            best = {p: max((q for q in score if items[q] == items[p]), key=lambda q: score[q]) for p in score}
            score = {p: score[p] for p in score if p == target or (best[p] == p and items[p] != items[target])}
        kept = {p for p in score if p != target and not _excluded(settings, pair, p, score, items)}
        if not kept and len(score) > 1:
            kept = {min(set(score) - {target}, key=lambda p: score[p])}
        logits = torch.stack([score[p] / settings.temperature for p in [target, *sorted(kept)]])
        share = settings.label_smoothing
        total = total - (1 - share) * logits.log_softmax(0)[0] - share * logits.log_softmax(0).mean()
    return total / len(DATA.targets)


def _excluded(settings: TrainConfig, pair: int, p: int, score: dict[int, Tensor], items: list[int]) -> bool:
    others = {int(t) for t, user in zip(DATA.targets, DATA.users, strict=True) if user == DATA.users[pair]}
    target = int(DATA.targets[pair])
    by_item = settings.loss == "listwise"
    return (
        (settings.mask_same_user and (items[p] in {items[o] for o in others} if by_item else p in others))
        or (settings.mask_same_item and items[p] == items[target])
        or (settings.mask_percpos and bool(score[p] > settings.percpos_threshold * score[target]))
        or (settings.hard_negatives > 0 and items[p] not in DATA.neighbours[pair])
    )


def gradients(model: EncoderModel, loss: Tensor) -> Tensor:
    model.zero_grad()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).double()


def relative_difference(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


@cache
def naive_gradients(case: str, model_path: str) -> tuple[float, Tensor]:
    model = new_model(config(**CASES[case]), model_path)
    loss = naive_loss(model)
    return float(loss.detach()), gradients(model, loss)


@pytest.mark.parametrize("case", CASES)
def test_cached_and_deduplicated_gradients_are_those_of_the_naive_loop(
    tiny_model_path: str, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.setitem(activations.CHUNK_TOKENS, "cpu", 24)
    loss, expected = naive_gradients(case, tiny_model_path)
    model = new_model(config(**CASES[case]), tiny_model_path)
    cached = model(**PairCollator(DATA, 0.6)(range(7)))["loss"]
    assert math.isclose(cached.item(), loss, rel_tol=1e-5)
    assert relative_difference(gradients(model, cached), expected) < 1e-5


def test_a_model_that_cannot_be_packed_has_the_gradients_too(
    tiny_model_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss, expected = naive_gradients("all masks, smoothed", tiny_model_path)
    packed = new_model(config(**CASES["all masks, smoothed"]), tiny_model_path)
    monkeypatch.setattr(models, "packed_forward", lambda encoder: None)
    padded = new_model(config(**CASES["all masks, smoothed"]), tiny_model_path)
    assert packed.packed is not None
    assert padded.packed is None
    found = padded(**PairCollator(DATA, 0.6)(range(7)))["loss"]
    assert math.isclose(found.item(), loss, rel_tol=1e-5)
    assert relative_difference(gradients(padded, found), expected) < 1e-5


def on_rank(rank: int, world: int, port: int, model_path: str, folder: str) -> None:
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    torch.set_num_threads(1)
    # One rank has more memory than the other.
    activations.CHUNK_TOKENS["cpu"] = (24, 60)[rank]
    for case, settings in CASES.items():
        model = new_model(config(**settings), model_path)
        parallel = DistributedDataParallel(model, find_unused_parameters=True)
        loss = parallel(**PairCollator(DATA, 0.6)(range(7)))["loss"]
        torch.save(gradients(model, loss), Path(folder) / f"{case}-{rank}.pt")
    end_rank(0)


def test_gradients_of_two_ranks_are_those_of_the_naive_loop(tiny_model_path: str, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes.start_processes(on_rank, (2, port, tiny_model_path, str(tmp_path)), nprocs=2, start_method="spawn")
    for case in CASES:
        expected = naive_gradients(case, tiny_model_path)[1]
        for rank in (0, 1):
            assert relative_difference(torch.load(tmp_path / f"{case}-{rank}.pt"), expected) < 1e-5


@pytest.mark.parametrize("case", ["plain", "listwise"])
def test_in_bf16_the_encoder_computes_in_few_bits_and_the_loss_in_many(case: str, tiny_model_path: str) -> None:
    exact, expected = naive_gradients(case, tiny_model_path)
    model = new_model(config(**CASES[case]), tiny_model_path)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(**PairCollator(DATA, 0.6)(range(7)))["loss"]
    assert loss.dtype == torch.float32
    assert loss.item() != exact
    assert math.isclose(loss.item(), exact, rel_tol=0.01)
    assert relative_difference(gradients(model, loss), expected) < 0.1


def test_a_pool_is_drawn_anew_each_epoch_and_the_targets_are_always_compared(tiny_model_path: str) -> None:
    model = new_model(config(negatives="catalogue", negative_pool=4), tiny_model_path)
    first, targets = model.pool.tolist(), torch.from_numpy(DATA.targets)
    model.start_epoch(1)
    assert len(first) == len(model.pool) == 4
    assert first != model.pool.tolist()
    rows, positives, _ = model.compared(targets, torch.from_numpy(DATA.target_items))
    assert rows[positives].tolist() == targets.tolist()
    assert sorted(rows.tolist()) == sorted({*targets.tolist(), *model.pool.tolist()})


def test_dropout_agrees_between_the_two_passes(tiny_model_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def step(budget: int) -> Tensor:
        monkeypatch.setitem(activations.CHUNK_TOKENS, "cpu", budget)
        model = new_model(config(dropout=True), tiny_model_path)
        torch.manual_seed(0)
        return gradients(model, model(**PairCollator(DATA, 0.6)(range(7)))["loss"])

    def uncached(call: Callable[..., Tensor], *inputs: object, use_reentrant: bool) -> Tensor:
        return call(*inputs)

    cached = step(24)
    monkeypatch.setattr(activations, "checkpoint", uncached)
    assert relative_difference(cached, step(24)) < 1e-6


def test_chunks_hold_texts_of_like_length_and_at_most_the_budget() -> None:
    chunks = list(length_chunks([3, 50, 4, 2, 3, 9], 10, at_most=9))
    assert chunks == [[1], [5], [2, 0], [4, 3]]
    assert list(length_chunks([3, 4, 2], 100, at_most=2)) == [[1, 0], [2]]


@pytest.mark.parametrize(("gibibytes", "share", "tokens"), [(80, 1.0, 32_768), (24, 1.0, 12_288), (24, 0.5, 6_144)])
def test_chunks_are_smaller_where_a_gpu_has_less_memory(
    monkeypatch: pytest.MonkeyPatch, gibibytes: int, share: float, tokens: int
) -> None:
    memory = SimpleNamespace(total_memory=gibibytes << 30)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda device: memory)
    monkeypatch.setattr("torch.cuda.get_per_process_memory_fraction", lambda device: share)
    assert Activations(torch.device("cuda"), []).chunk_tokens == tokens
