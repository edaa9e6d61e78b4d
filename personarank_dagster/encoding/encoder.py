"""Load sentence-transformers models safely, encode texts with them, and say by a fingerprint which model it was."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Module, Router
from sentence_transformers.sentence_transformer.modules import Normalize
from transformers.utils import logging as transformers_logging

from personarank_dagster.core.encoders import SIDES, BaseModel, Side
from personarank_dagster.core.errors import EncoderError
from personarank_dagster.core.profiles import FloatArray
from personarank_dagster.core.texts import text_windows
from personarank_dagster.encoding.engine import Engine, Precision
from personarank_dagster.encoding.sources import first_line, model_folder

# The progress of this program is its own; these bars would run through it.
transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]

BATCH_TEXTS = 32


def load_model(st_path: str, *, max_len: int, device: str, revision: str | None = None) -> SentenceTransformer:
    """Load a model in fp32 from a folder, the hub, or `bundled:all-MiniLM-L6-v2`.

    Only safetensors weights are read and no code of the model is run. Raises EncoderError if the model is not
    there, is not the expected one, or cannot read `max_len` tokens.
    """
    folder = model_folder(st_path, revision)
    try:
        model = SentenceTransformer(
            str(folder),
            device=device,
            trust_remote_code=False,
            local_files_only=True,
            model_kwargs={"use_safetensors": True, "dtype": torch.float32},
        )
    except (OSError, ValueError, RuntimeError, ImportError, KeyError) as error:
        raise EncoderError(
            f"st_path {st_path}: {folder} cannot be loaded: {first_line(error)}; it must hold a model of "
            "sentence-transformers in safetensors format that needs no code of its own"
        ) from error
    limit = getattr(getattr(model[0], "auto_model", None), "config", None)
    limit = getattr(limit, "max_position_embeddings", None)
    if limit is not None and max_len > limit:
        raise EncoderError(f"max_len must be at most {limit} for {st_path}, got {max_len}; lower it in train.yaml")
    model.max_seq_length = max_len
    _settle_prompts(model)
    return model


def encode(
    model: SentenceTransformer,
    texts: Sequence[str],
    *,
    side: Side = "document",
    precision: Precision = "fp32",
    on_texts: Callable[[int], None] = lambda count: None,
) -> FloatArray:
    """Unit vectors (texts, dimension) in fp32; `on_texts` hears how many texts each batch finished.

    Texts get the model's prompt of their side, as its `encode_query` and `encode_document` put it before them.
    The vector of a text does not depend on the texts beside it where the model can be packed; see `engine`. bf16 is
    a matter of this call: the model's weights stay as they are.
    """
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    order = np.argsort(-lengths, kind="stable")
    windows = ([texts[i] for i in order[rows]] for rows in text_windows(lengths[order]))
    vectors = np.empty((len(texts), embedding_dimension(model)), dtype=np.float32)
    for encoded in Engine(model, precision, side).stream(windows):
        vectors[order[encoded.places]] = encoded.vectors
        on_texts(len(encoded.places))
    return vectors


def embedding_dimension(model: SentenceTransformer) -> int:
    """Number of dimensions of the model's vectors. Raises EncoderError if the model does not say."""
    dimension = model.get_embedding_dimension()
    if dimension is None:
        raise EncoderError("the model does not say its embedding dimension; its last module must be a pooling")
    return dimension


def base_of(model: SentenceTransformer) -> SentenceTransformer:
    """The model without its heads: its modules before the router that `with_heads` added."""
    modules = list(model.children())
    routers = [i for i, module in enumerate(modules) if isinstance(module, Router)]
    return _with_modules(model, modules[: routers[0]]) if routers else model


def load_base(base: BaseModel, device: str) -> SentenceTransformer:
    """Load an encoder without the heads that a trained one may have.

    Raises EncoderError if it is not the one of the fingerprint: its vectors would be kept under another's name.
    """
    model = base_of(load_model(base.source, max_len=base.max_len, device=device, revision=base.revision))
    if base.fingerprint and (found := model_fingerprint(model)) != base.fingerprint:
        raise EncoderError(
            f"{base.source}: must be the encoder {base.fingerprint}, and is {found}; its files were replaced: "
            "train the encoder again"
        )
    return model


def with_heads(
    model: SentenceTransformer, query: npt.NDArray[np.float32], document: npt.NDArray[np.float32]
) -> SentenceTransformer:
    """The model followed by one linear map per side: `encode_query` and `encode_document` differ only in it."""
    routes: dict[str, list[Module]] = {"query": [_linear(query)], "document": [_linear(document)]}
    return _with_modules(model, [*model.children(), Router(routes, default_route="document"), Normalize()])


def with_normalize(model: SentenceTransformer) -> SentenceTransformer:
    """The model, its vectors of unit length."""
    modules = list(model.children())
    return model if isinstance(modules[-1], Normalize) else _with_modules(model, [*modules, Normalize()])


def model_fingerprint(model: SentenceTransformer) -> str:
    """Content hash of all in a model that decides a vector: weights, modules, tokenizer, maximum length, prompts."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps(model.max_seq_length).encode())
    digest.update(json.dumps(_tokenizer_rules(model), sort_keys=True).encode())
    for side in SIDES:
        if prompt := model.prompts.get(side):
            digest.update(f"{side} {prompt}".encode())
    for module in model.children():
        digest.update(f"{type(module).__name__} {json.dumps(_config_of(module), sort_keys=True)}".encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()


def save_model(model: SentenceTransformer, directory: Path) -> None:
    """Write a sentence-transformers directory; equal models give equal bytes."""
    # Encoding leaves its last padding and truncation in the tokenizer; loading sets both anew.
    model.tokenizer.backend_tokenizer.no_padding()
    model.tokenizer.backend_tokenizer.no_truncation()
    model.save(str(directory), create_model_card=False)


def _settle_prompts(model: SentenceTransformer) -> None:
    """Give each side its prompt: its own, else the model's default.

    sentence-transformers has `encode_query` and `encode_document` pass over the default prompt, and `encode` over
    those of the sides. Afterwards `encode` does as `encode_document`, unless the model names another default.
    """
    default = model.default_prompt_name
    of_all = "" if default is None or default in SIDES else model.prompts[default] or ""
    model.prompts |= {side: model.prompts.get(side) or of_all for side in SIDES}
    model.default_prompt_name = default or ("document" if model.prompts["document"] else None)


def _with_modules(model: SentenceTransformer, modules: list[torch.nn.Module]) -> SentenceTransformer:
    """A model of these modules that is like the given one in all else."""
    return SentenceTransformer(
        modules=modules,
        device=str(model.device),
        prompts={name: prompt or "" for name, prompt in model.prompts.items()},
        default_prompt_name=model.default_prompt_name,
        similarity_fn_name=model.similarity_fn_name,
    )


def _tokenizer_rules(model: SentenceTransformer) -> dict[str, object]:
    rules = json.loads(model.tokenizer.backend_tokenizer.to_str())
    return {key: value for key, value in rules.items() if key not in ("padding", "truncation")}


def _config_of(module: torch.nn.Module) -> dict[str, object]:
    """The module's own settings, without paths and versions."""
    keys = getattr(module, "config_keys", [])
    return {key: str(getattr(module, key, None)) for key in keys}


def _linear(weight: npt.NDArray[np.float32]) -> Dense:
    return Dense(
        weight.shape[1],
        weight.shape[0],
        bias=False,
        activation_function=torch.nn.Identity(),
        init_weight=torch.from_numpy(weight.copy()),
    )
