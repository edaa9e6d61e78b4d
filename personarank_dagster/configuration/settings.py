"""What may stand in the YAML files of a dataset: one class per file, a rule per key."""

from pathlib import Path
from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta

from personarank_dagster.core.aspects import SchemaName
from personarank_dagster.core.file_lists import SEVERAL

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
ModelName = Annotated[
    str, Meta(min_length=1, description="a hub id, a path such as /models/m or ./m, or bundled:all-MiniLM-L6-v2")
]
Revision = Annotated[str, Meta(min_length=1, description="a commit, tag or branch of the hub")]
FieldLetters = Annotated[
    str,
    Meta(pattern=r"^[NDIR](,[NDIR])*$", description='letters of N, D, I, R joined by commas, like "N,D,I,R"'),
]
Cutoffs = Annotated[
    tuple[PositiveInt, ...],
    Meta(min_length=1, description="a list of whole numbers from 1, each once, like [5, 10, 20]"),
]
CronText = Annotated[
    str, Meta(pattern=r"^\S+( \S+){4}$", description='a cron expression of five fields, like "0 3 * * *"')
]
TimeZone = Annotated[str, Meta(min_length=1, description="the name of a time zone, like Europe/Berlin")]
JobName = Literal["full_refresh_job", "data_validation_job", "retrain_job", "recache_job", "evaluate_job"]
FilePath = Annotated[
    Path,
    Meta(
        description="the path of a .jsonl, .json, .jsonl.gz, .json.gz or .parquet file, a folder of them, a pattern, "
        "or a list of these",
        extra={SEVERAL: True},
    ),
]
FolderPath = Annotated[Path, Meta(description="the path of a folder")]


PAIRS = ("selections", "histories", "both")
# Files that somebody else prepared; the first three are needed where there are no raw reviews.
PREPARED_KEYS = ("selected", "persona", "loo_history", "item_summary", "aspects", "gt", "reviews")
NEEDED_KEYS = PREPARED_KEYS[:3]
RAW_FILE_KEYS = (*PREPARED_KEYS, "candidates", "raw_reviews", "raw_items")


class DataConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`data.yaml`: the raw files of a dataset and where its outputs go. Relative paths start at this file.

    `out_root` is always a folder: where the file names an object store, it is the work folder, and
    `DatasetConfig.bucket` is the address. Either the files of `NEEDED_KEYS` are there, or `raw_reviews` and
    `raw_items`.
    """

    schema: Annotated[SchemaName, Meta(description="amazon or yelp")]
    out_root: FolderPath
    selected: FilePath | None = None
    persona: FilePath | None = None
    loo_history: FilePath | None = None
    work_dir: FolderPath | None = None
    item_summary: FilePath | None = None
    aspects: FilePath | None = None
    candidates: FilePath | None = None
    gt: FilePath | None = None
    reviews: FilePath | None = None
    raw_reviews: FilePath | None = None
    raw_items: FilePath | None = None
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
    refit: Flag = True
    patience: Count = 0
    pairs: Annotated[Literal["selections", "histories", "both"], Meta(description=f"one of {', '.join(PAIRS)}")] = (
        "selections"
    )
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
    blend: Annotated[Literal["alpha", "learned"], Meta(description="alpha or learned")] = "alpha"
    alpha: Alpha = 0.5
    user_max_k: PositiveInt = 10
    num_gpus: Processes = 1
    model: ModelName | None = None
    use_external_caches: Switch = False
    ext_persona_cache: FolderPath | None = None
    ext_interaction_cache: FolderPath | None = None
    ks: Cutoffs = (5, 10, 20)


class RetrieverConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`retriever.yaml`: how candidate lists are made where data.yaml names none.

    `neighbours` count with `method: item_knn`, `factors` and `seed` with `als`, which needs the extra `retriever`.
    """

    method: Annotated[Literal["item_knn", "als"], Meta(description="item_knn or als")] = "item_knn"
    neighbours: PositiveInt = 50
    factors: PositiveInt = 64
    seed: Count = 13
    length: PositiveInt = 100
    min_rating: Rating = 4.0


class ScheduleConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`schedule.yaml`, which a dataset need not have: when which job runs for it. Off unless `enabled`."""

    cron: CronText = "0 3 * * *"
    timezone: TimeZone = "UTC"
    job: Annotated[JobName, Meta(description=f"one of {', '.join(get_args(JobName))}")] = "full_refresh_job"
    enabled: Flag = False
