"""The configuration of a dataset: its folder of YAML files, and what the environment changes of them."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from personarank_dagster.configuration.export_settings import ExportConfig, load_export
from personarank_dagster.configuration.out_roots import Override, out_root_of
from personarank_dagster.configuration.prepare_settings import OWN_KEYS, PrepareConfig
from personarank_dagster.configuration.public_scripts import PASSED_OVER
from personarank_dagster.configuration.settings import (
    NEEDED_KEYS,
    PREPARED_KEYS,
    DataConfig,
    RerankConfig,
    RetrieverConfig,
    ScheduleConfig,
    TrainConfig,
)
from personarank_dagster.configuration.strict_yaml import load_yaml, read_mapping, relative_path
from personarank_dagster.core.aspects import SchemaName
from personarank_dagster.core.encoders import hub_id
from personarank_dagster.core.errors import ConfigError, UsageError, near
from personarank_dagster.core.texts import PERSONA_FIELDS, TextTemplate

CONFIG_DIR_VARIABLE = "PERSONARANK_CONFIG_DIR"
# USE_AMP=0 switches mixed precision off, whatever train.yaml says.
AMP_VARIABLE = "USE_AMP"

# Folder of the outputs where frames of other assets lie that stand for raw files.
GIVEN = "raw_assets"

DATASET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class DatasetConfig:
    """Everything that is configured for one dataset; `name` is the partition key.

    `prepare` is there where the dataset has raw reviews, `retriever` where its candidate lists are made here; `given`
    are keys of raw files that are copies of assets of others.
    """

    name: str
    data: DataConfig
    train: TrainConfig
    rerank: RerankConfig
    data_path: Path
    bucket: str | None = None
    export: ExportConfig = field(default_factory=ExportConfig)
    prepare: PrepareConfig | None = None
    retriever: RetrieverConfig | None = None
    given: tuple[str, ...] = ()

    @property
    def template(self) -> TextTemplate:
        """The text template that training and caches share."""
        return TextTemplate(
            schema=self.data.schema,
            with_aspects=self.rerank.mode != "summary",
            persona_fields=tuple(field for field in PERSONA_FIELDS if field in self.rerank.fields),
            include_item_id=self.rerank.include_item_id,
        )

    def with_revision(self, revision: str | None) -> "DatasetConfig":
        """The same with another `st_revision`, unless that is None."""
        train = msgspec.structs.replace(self.train, st_revision=revision or self.train.st_revision)
        return replace(self, train=train)

    def revision_of(self, model: str) -> str | None:
        """Revision of a model of this dataset: `st_revision` is that of `st_path`, wherever it is used."""
        return self.train.st_revision if model == self.train.st_path else None

    def external_cache(self, key: Literal["ext_persona_cache", "ext_interaction_cache"]) -> Path:
        """Folder of an external cache. Raises ConfigError if the key is not set."""
        if path := getattr(self.rerank, key):
            return Path(path)
        raise ConfigError(
            f"{self.data_path.with_name('rerank.yaml')}: use_external_caches needs {key}, the folder of that cache; "
            "add it, or leave use_external_caches out"
        )

    def raw_path(self, key: str) -> Path:
        """Path of a raw file. Raises ConfigError if the key is optional and not set."""
        if path := self.data.raw_files.get(key):
            return path
        raise ConfigError(f"{self.data_path}: {key} is not set, but this asset needs it; add the path of that file")


def config_dir(override: Path | None = None) -> Path:
    """Folder of the datasets: the override, else $PERSONARANK_CONFIG_DIR, else ./configs."""
    return Path(override or os.environ.get(CONFIG_DIR_VARIABLE) or "configs").absolute()


def dataset_names(folder: Path) -> list[str]:
    """Subfolders with a data.yaml, sorted; hidden ones do not count.

    Raises ConfigError if there are none, or if a name cannot be a partition key and a folder everywhere.
    """
    names = sorted(path.parent.name for path in folder.glob("[!.]*/data.yaml"))
    if wrong := [name for name in names if name == "all" or not DATASET_NAME.fullmatch(name)]:
        raise ConfigError(
            f"{folder / wrong[0]}: a dataset's name must be letters, digits, _ and -, not beginning with _ or -, "
            "and not all; rename the folder"
        )
    if not names:
        raise ConfigError(
            f"{folder}: expected at least one dataset folder with a data.yaml, found none; "
            f"set --config-dir or {CONFIG_DIR_VARIABLE}"
        )
    return names


def listed(names: Sequence[str]) -> str:
    """The names, for a message; of many the first twenty."""
    rest = f", … ({len(names):,} in all)" if len(names) > 20 else ""
    return ", ".join(names[:20]) + rest


def load_dataset(
    folder: Path, name: str, override: Override | None = None, *, given: Sequence[str] = ()
) -> DatasetConfig:
    """Read the three YAML files of one dataset, and export.yaml where there is one.

    `override`, else the environment, replaces the configured `out_root`; USE_AMP=0 in the environment switches mixed
    precision off. A dataset that is called like a schema has that one. Raw files with the keys `given` are not named
    in data.yaml, but lie among the outputs.
    Raises ConfigError with one line per problem.
    """
    data_path = folder / name / "data.yaml"
    if not (DATASET_NAME.fullmatch(name) and data_path.is_file()):
        names = dataset_names(folder)
        raise UsageError(f"unknown dataset {name!r}; {near(name, names)}{folder} has: {listed(names)}")
    schema = {"schema": name} if name in get_args(SchemaName) else {}
    data = _load_data(data_path, schema, given)
    place = out_root_of(data_path, override or Override.of_environment())
    copies = {key: place.folder / GIVEN / f"{key}.parquet" for key in given}
    train = _load_train(folder / name / "train.yaml")
    if os.environ.get(AMP_VARIABLE) == "0":
        train = msgspec.structs.replace(train, amp=False)
    return DatasetConfig(
        name=name,
        data=msgspec.structs.replace(data, out_root=place.folder, **copies),
        train=train,
        rerank=_load_rerank(folder / name / "rerank.yaml"),
        data_path=data_path,
        bucket=place.bucket,
        export=load_export(folder / name / "export.yaml"),
        prepare=load_prepare(folder, name) if data.raw_reviews else None,
        retriever=_load_retriever(folder / name / "retriever.yaml", data),
        given=tuple(given),
    )


def _load_data(path: Path, defaults: Mapping[str, object], given: Sequence[str]) -> DataConfig:
    """Read data.yaml, which names raw reviews and items or the files that are prepared of them."""
    named = read_mapping(path)
    if twice := [key for key in given if named.get(key)]:
        raise ConfigError(f"{path}: {twice[0]} must be left out where raw_assets names an asset for it; remove one")
    raw = bool(named.get("raw_reviews") or "raw_reviews" in given)
    passed_over = PASSED_OVER["data.yaml"]
    needed = () if raw else NEEDED_KEYS
    all_defaults = {**defaults, **{key: f"{GIVEN}/{key}.parquet" for key in given}}
    data = load_yaml(path, DataConfig, defaults=all_defaults, passed_over=passed_over, needed=needed)
    if (data.raw_reviews is None) != (data.raw_items is None):
        missing = "raw_reviews" if data.raw_reviews is None else "raw_items"
        raise ConfigError(f"{path}: {missing} is missing; raw_reviews and raw_items belong together")
    if raw and (both := [key for key in PREPARED_KEYS if getattr(data, key)]):
        raise ConfigError(
            f"{path}: {both[0]} must be left out beside raw_reviews, of which it is made; remove one of them"
        )
    return data


def _load_retriever(path: Path, data: DataConfig) -> RetrieverConfig | None:
    """How lists are made: as retriever.yaml says; without it as usual, but of raw reviews alone."""
    if data.candidates is not None:
        return None
    if path.exists():
        return load_yaml(path, RetrieverConfig)
    return RetrieverConfig() if data.raw_reviews else None


def load_prepare(folder: Path, name: str) -> PrepareConfig:
    """Read prepare.yaml of a dataset. Raises ConfigError."""
    path = folder / name / "prepare.yaml"
    if not path.exists():
        rule = "base_url and model of an OpenAI-compatible server"
        raise ConfigError(f"{path}: is missing; it must name {rule}, since data.yaml has raw_reviews")
    prepare = load_yaml(path, PrepareConfig)
    if prepare.min_personas > prepare.max_personas:
        got = f"{prepare.min_personas} and {prepare.max_personas}"
        raise ConfigError(f"{path}: min_personas must be at most max_personas, got {got}")
    if prepare.context_tokens < prepare.max_tokens + 1500:
        got = f"{prepare.context_tokens} with max_tokens {prepare.max_tokens}"
        raise ConfigError(f"{path}: context_tokens must be at least max_tokens + 1500, got {got}")
    if own := sorted(OWN_KEYS & prepare.request.keys()):
        raise ConfigError(f"{path}: request must not hold {own[0]}, which is made of the other keys; remove it there")
    try:
        date.fromisoformat(prepare.as_of or "2000-01-01")
    except ValueError as error:
        raise ConfigError(f"{path}: as_of must be a day, like 2018-07-01, got {prepare.as_of!r}") from error
    return prepare


def _load_train(path: Path) -> TrainConfig:
    train = load_yaml(path, TrainConfig, passed_over=PASSED_OVER["train.yaml"])
    if train.st_revision and hub_id(train.st_path) is None:
        raise ConfigError(
            f"{path}: st_revision must be left out where st_path is no hub id, got st_path {train.st_path!r} and "
            f"st_revision {train.st_revision!r}; a folder is what it is"
        )
    if train.pairs != "selections" and train.loss != "listwise":
        raise ConfigError(
            f"{path}: loss must be listwise where pairs is {train.pairs}, got {train.loss}: a pair of the "
            "histories has no selected persona, so that its item is scored by the best one"
        )
    return msgspec.structs.replace(train, st_path=_model_place(path, train.st_path))


def _load_rerank(path: Path) -> RerankConfig:
    rerank = load_yaml(path, RerankConfig)
    return msgspec.structs.replace(rerank, model=_model_place(path, rerank.model) if rerank.model else None)


def _model_place(path: Path, model: str) -> str:
    """The model; a relative path begins at the file that names it."""
    return str(relative_path(path, model)) if model.startswith(("./", "../", "~")) else model


def encode_settings(config: DatasetConfig) -> bytes:
    """The configuration as JSON, for a process that must not read the files again."""
    return msgspec.json.encode(config, enc_hook=str)


def decode_settings(content: bytes) -> DatasetConfig:
    """What `encode_settings` gave."""
    return msgspec.json.decode(content, type=DatasetConfig, dec_hook=lambda _, text: Path(text))


def load_schedule(folder: Path, name: str) -> ScheduleConfig:
    """Read schedule.yaml of a dataset; without one its schedule is off. Raises ConfigError."""
    path = folder / name / "schedule.yaml"
    if not path.exists():
        return ScheduleConfig()
    schedule = load_yaml(path, ScheduleConfig)
    try:
        ZoneInfo(schedule.timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        rule = "the name of a time zone, like Europe/Berlin"
        raise ConfigError(f"{path}: timezone must be {rule}, got {schedule.timezone!r}") from error
    return schedule


def reads_enabled(folder: Path, name: str) -> bool:
    """Whether schedule.yaml of a dataset says `enabled: true`, whatever else is wrong with it."""
    try:
        return read_mapping(folder / name / "schedule.yaml").get("enabled") is True
    except ConfigError:
        return False
