"""The YAML files of a dataset, read strictly: every error names file, key, rule and value."""

import difflib
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_type_hints
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
import yaml
from msgspec import Meta

from personarank_dagster.core.datasets import SchemaName
from personarank_dagster.core.errors import ConfigError
from personarank_dagster.core.texts import PERSONA_FIELDS, TextTemplate

CONFIG_DIR_VARIABLE = "PERSONARANK_CONFIG_DIR"
OUT_ROOT_VARIABLE = "PERSONARANK_OUT_ROOT"
WORK_DIR_VARIABLE = "PERSONARANK_WORK_DIR"
# USE_AMP=0 switches mixed precision off, whatever train.yaml says.
AMP_VARIABLE = "USE_AMP"

ADDRESS = re.compile(r"[a-z][a-z0-9+]*://.")
DATASET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")

# Each description completes the sentence "<file>: <key> must be …".
PositiveInt = Annotated[int, Meta(ge=1, le=10**9, description="a whole number from 1 to 10^9")]
Count = Annotated[int, Meta(ge=0, le=2**32 - 1, description="a whole number from 0 to 2^32 - 1")]
LearningRate = Annotated[float, Meta(gt=0, le=10, description="a number in (0, 10]")]
Temperature = Annotated[float, Meta(ge=1e-3, le=100, description="a number in [0.001, 100]")]
Share = Annotated[float, Meta(ge=0, le=1, description="a number in [0, 1]")]
# A blend: a number, or chosen by the users with a ground truth.
Alpha = Annotated[float, Meta(ge=0, le=1, description="a number in [0, 1], or auto")] | Literal["auto"]
DropRate = Annotated[float, Meta(ge=0, lt=1, description="a number in [0, 1)")]
Decay = Annotated[float, Meta(gt=0, le=1, description="a number in (0, 1]")]
Rating = Annotated[float, Meta(ge=0, le=5, description="a rating from 0 to 5")]
TextLength = Annotated[int, Meta(ge=8, le=32768, description="a whole number of tokens from 8 to 32768")]
BatchSize = Annotated[int, Meta(ge=2, description="a whole number >= 2 (a batch of one has no negatives)")]
Processes = Annotated[int, Meta(ge=0, le=64, description="a whole number from 0 to 64")]
Flag = Annotated[bool, Meta(description="true or false")]
# The public scripts write it as a number.
Switch = Annotated[bool | Literal[0, 1], Meta(description="true or false")]
ModelName = Annotated[str, Meta(min_length=1, description="a hub id, a path, or bundled:all-MiniLM-L6-v2")]
Revision = Annotated[str, Meta(min_length=1, description="a commit, tag or branch of the hub")]
FieldLetters = Annotated[
    str,
    Meta(pattern=r"^[NDIR](,[NDIR])*$", description='letters of N, D, I, R joined by commas, like "N,D,I,R"'),
]
Cutoffs = Annotated[
    tuple[PositiveInt, ...], Meta(min_length=1, description="a list of whole numbers from 1, like [5, 10, 20]")
]
CronText = Annotated[
    str, Meta(pattern=r"^\S+( \S+){4}$", description='a cron expression of five fields, like "0 3 * * *"')
]
TimeZone = Annotated[str, Meta(min_length=1, description="the name of a time zone, like Europe/Berlin")]
JobName = Literal["full_refresh_job", "data_validation_job", "retrain_job", "recache_job", "evaluate_job"]
FilePath = Annotated[Path, Meta(description="the path of a .jsonl, .jsonl.gz or .parquet file")]
FolderPath = Annotated[Path, Meta(description="the path of a folder")]


RAW_FILE_KEYS = ("selected", "persona", "loo_history", "item_summary", "aspects", "candidates", "gt", "reviews")


class DataConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`data.yaml`: the raw files of a dataset and where its outputs go. Relative paths start at this file.

    `out_root` is always a folder: where the file names an object store, it is the work folder, and
    `DatasetConfig.bucket` is the address.
    """

    schema: Annotated[SchemaName, Meta(description="amazon or yelp")]
    selected: FilePath
    persona: FilePath
    loo_history: FilePath
    out_root: FolderPath
    work_dir: FolderPath | None = None
    item_summary: FilePath | None = None
    aspects: FilePath | None = None
    candidates: FilePath | None = None
    gt: FilePath | None = None
    reviews: FilePath | None = None
    on_bad_row: Annotated[Literal["fail", "quarantine"], Meta(description="fail or quarantine")] = "fail"
    max_bad_share: Share = 0.01
    min_coverage: Share = 0.8
    max_drift: Share = 0.5
    max_line_mb: PositiveInt = 64
    max_gzip_ratio: PositiveInt = 200
    max_metrics_age_days: PositiveInt = 30
    keep: PositiveInt = 3

    @property
    def raw_files(self) -> dict[str, Path]:
        """Configured raw files by their key."""
        return {key: path for key in RAW_FILE_KEYS if (path := getattr(self, key)) is not None}


class TrainConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`train.yaml`: the encoder and how it is trained. `lora_*` count with `tune: lora` only.

    `num_gpus` counts where the encoder itself is trained; heads are a matter of seconds.
    """

    st_path: ModelName
    st_revision: Revision | None = None
    tune: Annotated[Literal["full", "lora", "head"], Meta(description="full, lora or head")] = "head"
    batch_size: BatchSize = 128
    epochs: PositiveInt = 10
    k_recent: PositiveInt = 10
    gamma: Decay = 0.65
    min_rating: Rating = 3.0
    lr: LearningRate = 1e-3
    max_len: TextLength = 256
    scheduler: Annotated[Literal["linear", "cosine", "constant"], Meta(description="linear, cosine or constant")] = (
        "linear"
    )
    warmup_steps: Count = 10
    grad_accum_steps: PositiveInt = 1
    weight_decay: Annotated[float, Meta(ge=0, le=10, description="a number in [0, 10]")] = 0.0
    dropout: Flag = True
    user_batches: Flag = False
    validation_share: DropRate = 0.1
    patience: Count = 0
    loss: Annotated[Literal["personas", "listwise"], Meta(description="personas or listwise")] = "personas"
    negatives: Annotated[Literal["batch", "catalogue"], Meta(description="batch or catalogue")] = "catalogue"
    negative_pool: Count = 0
    hard_negatives: Annotated[int, Meta(ge=0, le=1000, description="a whole number from 0 to 1000")] = 0
    mask_same_user: Flag = False
    mask_same_item: Flag = True
    mask_percpos: Flag = False
    percpos_threshold: Annotated[float, Meta(gt=0, le=1, description="a number in (0, 1]")] = 0.95
    temperature: Temperature = 0.1
    label_smoothing: DropRate = 0.0
    max_steps: Annotated[int, Meta(ge=0, description="a whole number >= 0 (0: no limit but epochs)")] = 0
    seed: Count = 13
    checkpoint_seconds: Count = 60
    amp: Flag = True
    num_gpus: Processes = 1
    lora_r: PositiveInt = 16
    lora_alpha: PositiveInt = 32
    lora_dropout: DropRate = 0.05


class RerankConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`rerank.yaml`: the texts that are encoded, the blend, and the cut-offs of the metrics."""

    mode: Annotated[
        Literal["summary", "aspects", "component"],
        Meta(description="summary or aspects (old name: component)"),
    ] = "aspects"
    fields: FieldLetters = "N,D,I,R"
    include_item_id: Flag = False
    alpha: Alpha = 0.5
    user_max_k: PositiveInt = 10
    num_gpus: Processes = 1
    model: ModelName | None = None
    use_external_caches: Switch = False
    ext_persona_cache: FolderPath | None = None
    ext_interaction_cache: FolderPath | None = None
    ks: Cutoffs = (5, 10, 20)


class ScheduleConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`schedule.yaml`, which a dataset need not have: when which job runs for it. Off unless `enabled`."""

    cron: CronText = "0 3 * * *"
    timezone: TimeZone = "UTC"
    job: Annotated[JobName, Meta(description=f"one of {', '.join(get_args(JobName))}")] = "full_refresh_job"
    enabled: Flag = False


@dataclass(frozen=True)
class DatasetConfig:
    """Everything that is configured for one dataset; `name` is the partition key."""

    name: str
    data: DataConfig
    train: TrainConfig
    rerank: RerankConfig
    data_path: Path
    bucket: str | None = None

    @property
    def template(self) -> TextTemplate:
        """The text template that training and caches share."""
        return TextTemplate(
            schema=self.data.schema,
            with_aspects=self.rerank.mode != "summary",
            persona_fields=tuple(field for field in PERSONA_FIELDS if field in self.rerank.fields),
            include_item_id=self.rerank.include_item_id,
        )

    def external_cache(self, key: Literal["ext_persona_cache", "ext_interaction_cache"]) -> Path:
        """Folder of an external cache. Raises ConfigError if the key is not set."""
        if path := getattr(self.rerank, key):
            return Path(path)
        raise ConfigError(
            f"{self.data_path.with_name('rerank.yaml')}: use_external_caches needs {key}, the folder of that cache"
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


def is_address(place: object) -> bool:
    """Whether this names a place in an object store, such as s3://bucket/prefix, and not a folder."""
    return isinstance(place, str) and ADDRESS.match(place) is not None


def load_dataset(folder: Path, name: str, out_root: Path | str | None = None) -> DatasetConfig:
    """Read the three YAML files of one dataset.

    `out_root`, else $PERSONARANK_OUT_ROOT, replaces the configured `out_root` by `<that>/<name>`; USE_AMP=0 in the
    environment switches mixed precision off.
    Raises ConfigError with one line per problem.
    """
    known = dataset_names(folder)
    if name not in known:
        raise ConfigError(f"unknown dataset {name!r}; {folder} has: {', '.join(known)}")
    data_path = folder / name / "data.yaml"
    data = load_yaml(data_path, DataConfig)
    shared = str(out_root or os.environ.get(OUT_ROOT_VARIABLE) or "")
    place = f"{shared.rstrip('/')}/{name}" if shared else _read_mapping(data_path)["out_root"]
    if is_address(place):
        data = msgspec.structs.replace(data, out_root=_work_dir(data, name))
    elif shared:
        data = msgspec.structs.replace(data, out_root=Path(place).absolute())
    train = load_yaml(folder / name / "train.yaml", TrainConfig)
    if os.environ.get(AMP_VARIABLE) == "0":
        train = msgspec.structs.replace(train, amp=False)
    return DatasetConfig(
        name=name,
        data=data,
        train=train,
        rerank=load_yaml(folder / name / "rerank.yaml", RerankConfig),
        data_path=data_path,
        bucket=place if is_address(place) else None,
    )


def _work_dir(data: DataConfig, name: str) -> Path:
    """Folder for what cannot lie in an object store: $PERSONARANK_WORK_DIR, work_dir, else ./outputs."""
    if shared := os.environ.get(WORK_DIR_VARIABLE):
        return Path(shared).absolute() / name
    return data.work_dir or Path("outputs").absolute() / name


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


ConfigT = TypeVar("ConfigT", DataConfig, TrainConfig, RerankConfig, ScheduleConfig)


def load_yaml(path: Path, config_type: type[ConfigT]) -> ConfigT:
    """Read one YAML file strictly. Raises ConfigError with one line per problem."""
    values = _read_mapping(path)
    rules = get_type_hints(config_type, include_extras=True)
    required = {field.name for field in msgspec.structs.fields(config_type) if field.required}
    problems = [_unknown_key(path, key, rules) for key in values if key not in rules]
    problems += [f"{path}: {key} is missing; it must be {_rule(rules[key])}" for key in required - values.keys()]
    # The public files leave optional keys empty instead of leaving them out.
    optional = {field.name for field in msgspec.structs.fields(config_type) if field.default is None}
    known = {key: value for key, value in values.items() if key in rules and not (key in optional and value == "")}
    converted = {key: _convert(path, key, value, rules[key], problems) for key, value in known.items()}
    if problems:
        raise ConfigError("\n".join(sorted(problems)))
    return config_type(**converted)


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice (YAML would silently keep the last)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        repeated = next((key for i, key in enumerate(keys) if key in keys[:i]), None)
        if repeated is not None:
            raise yaml.MarkedYAMLError(problem=f"key {repeated} is given twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


def _read_mapping(path: Path) -> dict[str, Any]:
    try:
        values = _parse_yaml(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: must hold `key: value` lines, got {type(values).__name__}")
    return values


# A run reads its files hundreds of times, so that an edit counts; what did not change is not parsed again.
@lru_cache
def _parse_yaml(content: bytes) -> Any:
    return yaml.load(content, _StrictLoader)


def _unknown_key(path: Path, key: object, rules: dict[str, Any]) -> str:
    close = difflib.get_close_matches(str(key), rules, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known keys: {', '.join(rules)}"
    return f"{path}: unknown key {key}; {hint}"


def _convert(path: Path, key: str, value: Any, rule: Any, problems: list[str]) -> Any:
    try:
        if isinstance(value, float) and value != value:
            raise msgspec.ValidationError("NaN")
        return msgspec.convert(value, rule, dec_hook=lambda _, text: _relative_path(path, text))
    except (msgspec.ValidationError, TypeError):
        hint = " (YAML reads it as text: write 1.0e-3)" if _is_number_text(value) else ""
        problems.append(f"{path}: {key} must be {_rule(rule)}, got {value!r}{hint}")


def _relative_path(path: Path, text: object) -> Path:
    if not isinstance(text, str) or not text:
        raise msgspec.ValidationError("not a path")
    return Path(os.path.normpath(path.parent / Path(text).expanduser()))


def _is_number_text(value: object) -> bool:
    try:
        return isinstance(value, str) and float(value) is not None
    except ValueError:
        return False


def _rule(rule: Any) -> str:
    options = [rule, *getattr(rule, "__args__", ())]
    metas = [meta for option in options for meta in getattr(option, "__metadata__", ())]
    return next(str(meta.description) for meta in metas if meta.description)
