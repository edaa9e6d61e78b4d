"""How many tokens a question has: by the tokenizer of the model, or an estimate that is said to be one."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from personarank_dagster.core.errors import ConfigError, reason_of
from personarank_dagster.preparation.questions import Question

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FILE = "tokenizer.json"
# A server that read less than this share of a prompt cut it; an estimate may be far off.
WHOLE_BY_COUNT, WHOLE_BY_ESTIMATE = 0.9, 0.5


@dataclass(frozen=True)
class TokenCount:
    """Counts tokens of messages, without those that a chat template puts around them."""

    tokenizer: "Tokenizer | None" = None

    def of(self, question: Question) -> int:
        """Tokens of a question; about four bytes each where no tokenizer is known."""
        if self.tokenizer is None:
            return question.estimated_tokens
        both = self.tokenizer.encode_batch_fast([question.system, question.user], add_special_tokens=False)
        return sum(len(one.ids) for one in both)

    @property
    def whole_share(self) -> float:
        """Less than this share of its tokens is not the whole prompt."""
        return WHOLE_BY_ESTIMATE if self.tokenizer is None else WHOLE_BY_COUNT


BY_BYTES = TokenCount()


@lru_cache
def token_count(path: Path | None) -> TokenCount:
    """By the `tokenizer.json` at a path, or in that folder. Raises ConfigError if it cannot be read."""
    if path is None:
        return BY_BYTES
    from tokenizers import Tokenizer

    file = path / FILE if path.is_dir() else path
    try:
        tokenizer = Tokenizer.from_str(file.read_text(encoding="utf-8"))
    # The library raises nothing more special.
    except Exception as error:
        raise ConfigError(
            f"{file}: is not the {FILE} of a tokenizer: {reason_of(error)}; name the file, or the folder of the "
            "model that holds it, by tokenizer in prepare.yaml"
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return TokenCount(tokenizer)
