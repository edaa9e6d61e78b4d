"""Token ids of many texts by their words: each different word is tokenised once, however often it stands there.

BERT's tokenizers cut a text at white space before all else, and what becomes of a word does not depend on the words
beside it. Of fifty words of reviews one is new, so that nearly all work is a look-up.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from personarank_dagster.core.profiles import IntArray

Integer = TypeVar("Integer", bound=np.integer)

# A text of one token shows the special tokens around it.
PROBE = "a"


@dataclass(frozen=True)
class Tokens:
    """Token ids (tokens,) of texts one after another, how many each has, and whether the text has more of its own."""

    ids: IntArray
    lengths: IntArray
    cut: npt.NDArray[np.bool_]


Tokenize = Callable[[Sequence[str]], Tokens]


def tokens_of(tokenizer: Tokenizer, max_tokens: int) -> Tokenize:
    """What this tokenizer gives of texts cut at `max_tokens`, the quickest way; it is its caller's no longer."""
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if _is_by_words(tokenizer):
        return WordTokenizer.of(tokenizer, max_tokens)
    tokenizer.enable_truncation(max_tokens)
    return partial(_by_texts, tokenizer)


@dataclass(frozen=True)
class WordTokenizer:
    """Gives `before`, then the tokens of a text's words, `room` of them at most, then `after`."""

    tokenizer: Tokenizer
    before: list[int]
    after: list[int]
    room: int

    @classmethod
    def of(cls, tokenizer: Tokenizer, max_tokens: int) -> "WordTokenizer":
        """One that gives what the tokenizer gives."""
        (own,) = tokenizer.encode(PROBE, add_special_tokens=False).ids
        around = tokenizer.encode(PROBE).ids
        place = around.index(own)
        return cls(tokenizer, around[:place], around[place + 1 :], max_tokens - len(around) + 1)

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """Tokenise the texts."""
        words = pl.Series(texts, dtype=pl.String).str.split(" ")
        counts = words.list.len().to_numpy().astype(np.int64)
        ids, lengths = self._of_words(words.explode())
        ends = np.append(0, np.cumsum(lengths))[np.cumsum(counts)]
        whole = np.diff(ends, prepend=0)
        kept = np.minimum(whole, self.room)
        special = len(self.before) + len(self.after)
        return Tokens(self._between(ids, ends - whole, kept), kept + special, whole > self.room)

    def _of_words(self, words: pl.Series) -> tuple[IntArray, IntArray]:
        """Ids of the words one after another, and how many each has."""
        distinct = words.unique()
        codes = words.cast(pl.Enum(distinct)).to_physical().to_numpy().astype(np.int64)
        encodings = self.tokenizer.encode_batch_fast(distinct.to_list(), add_special_tokens=False)
        lengths = np.fromiter(map(len, encodings), dtype=np.int64, count=len(encodings))
        ids = np.fromiter(chain.from_iterable(one.ids for one in encodings), dtype=np.int64, count=int(lengths.sum()))
        return gather(ids, (np.cumsum(lengths) - lengths)[codes], lengths[codes]), lengths[codes]

    def _between(self, ids: IntArray, starts: IntArray, lengths: IntArray) -> IntArray:
        """The tokens of each text between the special ones: three runs for each."""
        before, after = len(self.before), len(self.after)
        begins = np.stack([np.zeros_like(starts), starts + before + after, np.full_like(starts, before)], axis=1)
        sizes = np.stack([np.full_like(lengths, before), lengths, np.full_like(lengths, after)], axis=1)
        return gather(np.concatenate([self.before, self.after, ids]).astype(np.int64), begins.ravel(), sizes.ravel())


def gather(values: npt.NDArray[Integer], starts: IntArray, lengths: IntArray) -> npt.NDArray[Integer]:
    """Runs of values one after another, each `lengths[i]` from `starts[i]` on."""
    shifts = starts - (np.cumsum(lengths) - lengths)
    rows = np.arange(lengths.sum()) + np.repeat(shifts, lengths)
    taken: npt.NDArray[Integer] = values[rows]
    return taken


def _by_texts(tokenizer: Tokenizer, texts: Sequence[str]) -> Tokens:
    encodings = tokenizer.encode_batch_fast(list(texts))
    lengths = np.fromiter(map(len, encodings), dtype=np.int64, count=len(encodings))
    ids = np.fromiter(chain.from_iterable(one.ids for one in encodings), dtype=np.int64, count=int(lengths.sum()))
    return Tokens(ids, lengths, np.array([bool(one.overflowing) for one in encodings], dtype=np.bool_))


def _is_by_words(tokenizer: Tokenizer) -> bool:
    """Whether it is one of BERT's, which cuts at white space, and nothing was added that has any."""
    return (
        isinstance(tokenizer.normalizer, BertNormalizer)
        and isinstance(tokenizer.pre_tokenizer, BertPreTokenizer)
        and isinstance(tokenizer.model, WordPiece)
        and not any(map(_takes_spaces, tokenizer.get_added_tokens_decoder().values()))
    )


def _takes_spaces(token: AddedToken) -> bool:
    return token.lstrip or token.rstrip or token.single_word or " " in token.content
