"""Texts become token ids, in a thread of their own while the device computes, and token ids become batches."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer

from personarank_dagster.core.profiles import IntArray
from personarank_dagster.encoding.tokens.words import Tokenize, gather, tokens_of

# Windows that are tokenised before they are asked for.
AHEAD = 3
# Texts of a table that are tokenised at once.
BLOCK_TEXTS = 4096


@dataclass(frozen=True)
class Batch:
    """Texts that are computed together, longest first.

    `places` are theirs among all texts, `ids` (tokens,) their token ids one after another, `lengths` how many each
    has, `cut` whether the text was longer than the model reads.
    """

    texts: list[str]
    places: IntArray
    ids: IntArray
    lengths: IntArray
    cut: npt.NDArray[np.bool_]

    def part(self, begin: int, end: int | None = None) -> "Batch":
        """The texts from `begin` to `end`."""
        tokens = slice(int(self.lengths[:begin].sum()), int(self.lengths[:end].sum()))
        texts = slice(begin, end)
        return Batch(self.texts[texts], self.places[texts], self.ids[tokens], self.lengths[texts], self.cut[texts])

    def within(self, budget: int) -> int:
        """How many of the first texts have no more tokens than the budget together; one at least."""
        return max(1, int(np.searchsorted(np.cumsum(self.lengths), budget, side="right")))


@dataclass(frozen=True)
class TextReader:
    """Makes token ids of texts as the model reads them: after the prompt, cut at its maximum length, not padded."""

    tokenize: Tokenize
    prompt: str = ""

    def windows(self, windows: Iterable[Sequence[str]]) -> Iterator[Batch]:
        """Each window as one batch; places count the texts of all windows from 0. The next are made meanwhile."""
        coming: deque[Future[Batch]] = deque()
        place = 0
        with ThreadPoolExecutor(AHEAD) as pool:
            for window in windows:
                coming.append(pool.submit(self.read, window, place))
                place += len(window)
                if len(coming) > AHEAD:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()

    def read(self, texts: Sequence[str], place: int = 0) -> Batch:
        """The texts as one batch, the first of them at `place`."""
        tokens = self.tokenize([self.prompt + text for text in texts])
        order = np.argsort(-tokens.lengths, kind="stable")
        starts = np.cumsum(tokens.lengths) - tokens.lengths
        return Batch(
            texts=[texts[i] for i in order],
            places=order + place,
            ids=gather(tokens.ids, starts[order], tokens.lengths[order]),
            lengths=tokens.lengths[order],
            cut=tokens.cut[order],
        )


def text_reader(model: SentenceTransformer, prompt: str = "") -> TextReader:
    """With a copy of the model's tokenizer."""
    tokenizer = Tokenizer.from_str(model.tokenizer.backend_tokenizer.to_str())
    max_tokens = int(model.max_seq_length or model.tokenizer.model_max_length)
    return TextReader(tokens_of(tokenizer, max_tokens), prompt)


@dataclass(frozen=True)
class TokenTable:
    """Tokens of texts that are read again and again: text i has `lengths[i]` of `ids`, from `starts[i]` on."""

    ids: npt.NDArray[np.int32]
    starts: IntArray
    lengths: IntArray

    def of(self, rows: IntArray) -> tuple[IntArray, IntArray]:
        """Token ids of these texts one after another, and how many each has."""
        lengths = self.lengths[rows]
        return gather(self.ids, self.starts[rows], lengths).astype(np.int64), lengths


def token_table(reader: TextReader, texts: Sequence[str]) -> TokenTable:
    """Every text is tokenised once."""
    blocks = (texts[begin : begin + BLOCK_TEXTS] for begin in range(0, len(texts), BLOCK_TEXTS))
    ids = [np.empty(0, dtype=np.int32)]
    starts, lengths = np.empty(len(texts), dtype=np.int64), np.empty(len(texts), dtype=np.int64)
    offset = 0
    for read in reader.windows(blocks):
        lengths[read.places] = read.lengths
        starts[read.places] = np.cumsum(read.lengths) - read.lengths + offset
        ids.append(read.ids.astype(np.int32))
        offset += len(read.ids)
    return TokenTable(np.concatenate(ids), starts, lengths)
