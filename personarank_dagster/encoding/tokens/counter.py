"""Lengths of texts in tokens of a model, from its tokenizer alone: no torch, no weights."""

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path

from personarank_dagster.core.encoders import BUNDLED_NAME, BUNDLED_PACKAGE, hub_id

TOKENIZER = "tokenizer.json"

# Names of the transformer's folder in sentence-transformers directories, new and old.
FOLDERS = ("", "0_Transformer")


def token_counter(st_path: str, revision: str | None = None) -> Callable[[Sequence[str]], list[int]] | None:
    """A function that counts tokens, special ones included; None if the model's tokenizer is not on this machine."""
    path = _tokenizer_file(st_path, revision)
    if path is None:
        return None
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda texts: [len(encoding.ids) for encoding in tokenizer.encode_batch_fast(list(texts))]


def _tokenizer_file(st_path: str, revision: str | None) -> Path | None:
    if st_path == BUNDLED_NAME:
        spec = importlib.util.find_spec(BUNDLED_PACKAGE)
        if spec is None or spec.origin is None:
            return None
        folder = Path(spec.origin).parent / "model"
    else:
        folder = Path(st_path).expanduser()
    found = [folder / name / TOKENIZER for name in FOLDERS if (folder / name / TOKENIZER).is_file()]
    if found:
        return found[0]
    from huggingface_hub import try_to_load_from_cache

    name = hub_id(st_path)
    downloaded = try_to_load_from_cache(name, TOKENIZER, revision=revision) if name else None
    return Path(downloaded) if isinstance(downloaded, str) else None
