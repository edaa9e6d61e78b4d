from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.attention import varlen

from personarank_dagster.encoding import attention
from personarank_dagster.encoding.attention import Layout, attention_for, by_runs, padded, variable_length

HEADS, WIDTH = 2, 4
LENGTHS = np.array([5, 3, 3, 1])
CPU = torch.device("cpu")


def queries_keys_values(seed: int = 0) -> tuple[Tensor, ...]:
    rows = torch.randn(int(LENGTHS.sum()), 3, HEADS, WIDTH, generator=torch.Generator().manual_seed(seed))
    return rows.unbind(1)


def one_text_after_another(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """The formula of attention, softmax(q k / sqrt(width)) v, text by text and head by head."""
    parts = []
    for q, k, v in zip(*(part.split(LENGTHS.tolist()) for part in (query, key, value)), strict=True):
        weights = torch.softmax(torch.einsum("ihd,jhd->hij", q, k) / WIDTH**0.5, dim=2)
        parts.append(torch.einsum("hij,jhd->ihd", weights, v))
    return torch.cat(parts)


@pytest.mark.parametrize("way", [by_runs, padded])
def test_each_way_is_the_formula_of_attention(way: Callable[..., Tensor]) -> None:
    of_texts = queries_keys_values()
    torch.testing.assert_close(way(*of_texts, Layout(LENGTHS, CPU)), one_text_after_another(*of_texts))


def test_the_call_of_variable_length_has_the_bounds_of_the_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    def reference(q: Tensor, k: Tensor, v: Tensor, of_q: Tensor, of_k: Tensor, max_q: int, max_k: int) -> Tensor:
        assert (of_q.dtype, max_q, max_k) == (torch.int32, 5, 5)
        assert torch.equal(of_q, of_k)
        parts = [
            by_runs(*(p[a:b] for p in (q, k, v)), Layout(np.array([b - a]), CPU)) for a, b in of_q.unfold(0, 2, 1)
        ]
        return torch.cat(parts)

    monkeypatch.setattr(varlen, "varlen_attn", reference)
    of_texts = queries_keys_values()
    torch.testing.assert_close(
        variable_length(*of_texts, Layout(LENGTHS, CPU)), by_runs(*of_texts, Layout(LENGTHS, CPU))
    )


@pytest.mark.parametrize(
    ("device", "dtype", "way"),
    [
        ("cpu", torch.float32, by_runs),
        ("cpu", torch.bfloat16, by_runs),
        ("cuda", torch.bfloat16, variable_length),
        ("cuda", torch.float16, variable_length),
        ("cuda", torch.float32, padded),
    ],
)
def test_a_device_has_its_way(device: str, dtype: torch.dtype, way: object) -> None:
    assert attention_for(torch.device(device), dtype) is way


def test_without_the_call_a_gpu_pads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "_has_variable_length", lambda: False)
    assert attention_for(torch.device("cuda"), torch.bfloat16) is padded


def test_rows_that_fill_the_matrix_up_change_nothing() -> None:
    of_texts = queries_keys_values()
    filled = [torch.cat([part, torch.full((7, HEADS, WIDTH), torch.nan)]) for part in of_texts]
    layout = Layout(LENGTHS, CPU)
    assert torch.equal(by_runs(*filled, layout)[: len(of_texts[0])], by_runs(*of_texts, layout))


def test_a_layout_knows_where_tokens_stand() -> None:
    layout = Layout(np.array([3, 1]), CPU)
    assert layout.positions.tolist() == [0, 1, 2, 0]
    assert layout.bounds.tolist() == [0, 3, 4]
    assert layout.cells.tolist() == [0, 1, 2, 3]
    assert layout.mask.tolist() == [[True, True, True], [True, False, False]]
    assert layout.padded(torch.tensor([[1.0], [2.0], [3.0], [4.0]])).squeeze(2).tolist() == [[1, 2, 3], [4, 0, 0]]
