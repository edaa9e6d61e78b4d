"""What each asset is made from: its code, the settings that it reads, its raw files and its upstream versions.

A version records this, so that anything that changed since is known by name: that is what makes an asset stale.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from personarank_dagster.configuration.dataset import DatasetConfig
from personarank_dagster.core.errors import ContractError
from personarank_dagster.core.texts import TEMPLATE_VERSION
from personarank_dagster.defs.platform.partitions import UNPARTITIONED, dataset_partitions
from personarank_dagster.defs.platform.resources import ProjectResource
from personarank_dagster.storage.disk import content_hash
from personarank_dagster.storage.known_hashes import file_version
from personarank_dagster.storage.manifests import Provenance
from personarank_dagster.storage.versions import Version
from personarank_dagster.vectors.embeddings import made_with
from personarank_dagster.vectors.external_caches import FILES as EXTERNAL_FILES

RAW = "raw"

# Raw files that an asset reads, by their key in data.yaml; a key that is not configured is passed over.
RAW_INPUTS: dict[str, tuple[str, ...]] = {
    "personas": ("persona", "item_summary"),
    "histories": ("loo_history", "item_summary", "aspects", "gt"),
    "selected_personas": ("selected", "gt"),
    "candidates": ("candidates",),
    "ground_truth": ("gt",),
    "reranked_candidates": ("gt",),
    "rerank_metrics": ("reviews",),
}

UPSTREAM: dict[str, tuple[str, ...]] = {
    "personas": (),
    "histories": (),
    "selected_personas": ("personas",),
    "candidates": (),
    "ground_truth": (),
    "trained_encoder": ("personas", "histories", "selected_personas"),
    "interaction_cache": ("histories", "trained_encoder"),
    "persona_cache": ("personas", "trained_encoder"),
    "reranked_candidates": ("candidates", "interaction_cache", "persona_cache"),
    "rerank_metrics": (
        "reranked_candidates",
        "candidates",
        "ground_truth",
        "histories",
        "interaction_cache",
        "persona_cache",
    ),
    "metrics_report": ("rerank_metrics",),
}

# Count an asset's number up when its code gives another result for the same inputs.
CODE_VERSIONS: dict[str, str] = dict.fromkeys(UPSTREAM, "1") | {
    "trained_encoder": "5",
    "interaction_cache": "2",
    "persona_cache": "2",
    "reranked_candidates": "3",
    "rerank_metrics": "3",
    "metrics_report": "2",
}

# Settings that decide an asset's result; all others can change without making it stale.
SETTINGS: dict[str, Callable[[DatasetConfig], object]] = {
    "personas": lambda config: _bad_row_rules(config),
    "histories": lambda config: (config.data.schema, _bad_row_rules(config)),
    "selected_personas": lambda config: _bad_row_rules(config),
    "candidates": lambda config: _bad_row_rules(config),
    "ground_truth": lambda config: _bad_row_rules(config),
    "trained_encoder": lambda config: (
        TEMPLATE_VERSION,
        config.template,
        msgspec.structs.replace(config.train, num_gpus=1, checkpoint_seconds=0),
    ),
    "interaction_cache": lambda config: (
        TEMPLATE_VERSION,
        config.template,
        config.train.min_rating,
        _other_encoder(config, "ext_interaction_cache"),
    ),
    "persona_cache": lambda config: (TEMPLATE_VERSION, config.template, _other_encoder(config, "ext_persona_cache")),
    "reranked_candidates": lambda config: (
        _ranking_rules(config),
        max(config.rerank.ks) if config.rerank.alpha == "auto" else None,
    ),
    "rerank_metrics": lambda config: (config.rerank.ks, _ranking_rules(config)),
}


def _ranking_rules(config: DatasetConfig) -> object:
    return config.rerank.alpha, config.rerank.user_max_k, config.train.gamma


def _bad_row_rules(config: DatasetConfig) -> object:
    return config.data.on_bad_row, config.data.max_bad_share


def _other_encoder(config: DatasetConfig, key: Literal["ext_interaction_cache", "ext_persona_cache"]) -> object:
    """What a cache is made with, if not by the trained encoder."""
    if not config.rerank.use_external_caches:
        model = config.rerank.model
        return model and (model, config.revision_of(model))
    folder = config.external_cache(key)
    hashes = config.data.out_root / "raw_files.json"
    return [file_version(folder / name, hashes) for name in EXTERNAL_FILES[key]]


def provenance(project: ProjectResource, asset: str, partition: str) -> Provenance:
    """What the asset would be made from now."""
    inputs: dict[str, str] = {}
    for upstream, key in _upstream_partitions(asset, partition):
        name = upstream if key == partition else f"{upstream}[{key}]"
        if version := project.versions(upstream, key).find_current():
            inputs[name] = version.manifest.data_version
    if partition != UNPARTITIONED:
        dataset = project.dataset(partition)
        inputs |= {
            f"{RAW}/{key}": raw_version(dataset, key)
            for key in RAW_INPUTS.get(asset, ())
            if key in dataset.data.raw_files
        }
    return Provenance(
        code_version=CODE_VERSIONS[asset],
        config_hash=_settings_hash(project, asset, partition),
        inputs=dict(sorted(inputs.items())),
    )


def dataset_fingerprint(project: ProjectResource, dataset: str) -> str:
    """Content hash of all that a dataset's results come from: code, settings, raw files."""
    config = project.dataset(dataset)
    settings = [(asset, code, _settings_hash(project, asset, dataset)) for asset, code in CODE_VERSIONS.items()]
    return content_hash(repr(settings), *(raw_version(config, key) for key in config.data.raw_files))


def checkpoint_folder(project: ProjectResource, partition: str, device: str, precision: str) -> tuple[Path, str]:
    """Folder of unfinished trainings, and the name of this one: another input, setting or code has another name."""
    made_from = provenance(project, "trained_encoder", partition)
    name = content_hash(repr(msgspec.to_builtins(made_from)), device, precision)
    return project.dataset(partition).data.out_root / "staging", f"trained_encoder-{name[:16]}"


def stale_reason(project: ProjectResource, asset: str, partition: str) -> str | None:
    """Why the asset's current version is not what a run would now give; None if it is."""
    current: Version | None = project.versions(asset, partition).find_current()
    if current is None:
        return "never materialised"
    made_from, now = current.manifest.provenance, provenance(project, asset, partition)
    if made_from.code_version != now.code_version:
        return "its code changed"
    if made_from.config_hash != now.config_hash:
        return "its settings changed"
    changed = [
        name
        for name in sorted(made_from.inputs.keys() | now.inputs.keys())
        if made_from.inputs.get(name) != now.inputs.get(name)
    ]
    return f"{', '.join(changed)} changed" if changed else None


def check_one_encoder(project: ProjectResource, partition: str) -> None:
    """Raise ContractError if the caches are not by one encoder and template: their cosines would mean nothing."""
    spaces = {
        cache: made_with(project.versions(cache, partition).current()).space
        for cache in ("interaction_cache", "persona_cache")
    }
    if len(set(spaces.values())) > 1:
        raise ContractError(
            f"reranked_candidates ({partition}): both caches must be by one encoder and template, got {spaces}; "
            "materialise both caches"
        )


def lineage(project: ProjectResource, asset: str, partition: str) -> dict[str, str]:
    """Data versions of all assets that the asset comes from, by name."""
    versions: dict[str, str] = {}
    for upstream in UPSTREAM[asset]:
        versions[upstream] = project.versions(upstream, partition).current().manifest.data_version
        versions |= lineage(project, upstream, partition)
    return dict(sorted(versions.items()))


def raw_version(dataset: DatasetConfig, key: str) -> str:
    """Content hash of a raw file of a dataset, by its key in data.yaml."""
    return file_version(dataset.data.raw_files[key], dataset.data.out_root / "raw_files.json")


def _upstream_partitions(asset: str, partition: str) -> list[tuple[str, str]]:
    keys = dataset_partitions.get_partition_keys() if partition == UNPARTITIONED else [partition]
    return [(upstream, key) for upstream in UPSTREAM[asset] for key in keys]


def _settings_hash(project: ProjectResource, asset: str, partition: str) -> str:
    if partition == UNPARTITIONED or asset not in SETTINGS:
        return content_hash()
    return content_hash(repr(msgspec.to_builtins(SETTINGS[asset](project.dataset(partition)))))
