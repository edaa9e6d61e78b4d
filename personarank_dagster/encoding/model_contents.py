"""What a model is, by its content: so that a folder whose weights were replaced is another model, under any name.

A model of the hub is its commit. One without a commit in its configuration is pinned to that of its first use.
"""

import re
import uuid
from pathlib import Path

import msgspec

from personarank_dagster.core.encoders import BUNDLED_NAME, hub_id
from personarank_dagster.storage.disk import content_hash
from personarank_dagster.storage.known_hashes import file_version

COMMIT = re.compile(r"[0-9a-f]{40}")
# Beside the outputs of a dataset: commits by `<name>@<revision>`.
PINS_JSON = "models.json"
# Files that decide a vector: settings, vocabularies, weights.
FILES = ("*.json", "*.txt", "*.model", "*.safetensors")


def model_content(st_path: str, revision: str | None, out_root: Path) -> str:
    """Content of a model: its commit, or a hash of its files; of one that was not downloaded yet its name alone."""
    if st_path == BUNDLED_NAME:
        from personarank_dagster.encoding.sources import BUNDLED_SHA256

        return content_hash(*BUNDLED_SHA256.values())
    if name := hub_id(st_path):
        return f"{name}@{_known_commit(name, revision, out_root) or revision or 'main'}"
    folder = Path(st_path).expanduser()
    files = sorted({path for pattern in FILES for path in folder.rglob(pattern) if path.is_file()})
    versions = [f"{path.relative_to(folder)} {file_version(path, out_root / 'raw_files.json')}" for path in files]
    return content_hash(*versions) if files else "missing"


def pinned_commit(st_path: str, revision: str | None, out_root: Path) -> str | None:
    """Commit of a model of the hub, which is downloaded at its first use; None for a folder and the bundled model.

    Raises EncoderError if it is neither on this machine nor can be downloaded.
    """
    name = hub_id(st_path)
    if name is None:
        return None
    known = _known_commit(name, revision, out_root)
    if known is None:
        from personarank_dagster.encoding.sources import model_folder

        known = model_folder(st_path, revision).name
    _write_pin(f"{name}@{revision or 'main'}", known, out_root / PINS_JSON)
    return known


def _known_commit(name: str, revision: str | None, out_root: Path) -> str | None:
    """The commit that is configured, that the model was pinned to, or that lies in the cache of this machine."""
    if revision and COMMIT.fullmatch(revision):
        return revision
    if pin := _pins(out_root / PINS_JSON).get(f"{name}@{revision or 'main'}"):
        return pin
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, "config.json", revision=revision)
    return Path(found).parent.name if isinstance(found, str) else None


def _pins(path: Path) -> dict[str, str]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, str])
    except FileNotFoundError:
        return {}


def _write_pin(name: str, commit: str, path: Path) -> None:
    if _pins(path).get(name) == commit:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}")
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(_pins(path) | {name: commit})))
    temporary.replace(path)
