"""What `dg scaffold defs` and `personarank init` write for a dataset; nothing that is there is written over."""

from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Literal

import dagster as dg
from dagster.components.component_scaffolding import scaffold_component
from pydantic import BaseModel, Field

from personarank_dagster.configuration.dataset import DATASET_NAME
from personarank_dagster.core.aspects import SchemaName
from personarank_dagster.core.errors import UsageError
from personarank_dagster.sample.files import write_dataset_files
from personarank_dagster.sample.raw_reviews import write_raw_reviews

TEMPLATES = files("personarank_dagster.component") / "templates"

# As many users, and the seed, of the sample in the repository.
NUM_USERS, SEED = 160, 13

# Attributes of a defs.yaml that are not set, for a person to see.
MORE_ATTRIBUTES = """\
  # out_root: "{{ context.project_root }}/outputs"  # or s3://bucket/prefix; without it data.yaml says where
  # group_name: personas        # one group for all assets; without it one for each stage
  # owners: ["team:search"]
  # schedules: true             # as schedule.yaml of each dataset says
  # sensors: true
  # gpu: {device: auto}
  # pool: gpu                   # concurrency pool of what computes on the device
  # raw_assets:                 # your own assets instead of files
  #   loo_history: [warehouse, histories]
"""


class DatasetParams(BaseModel):
    """What a dataset is called, and what it is made from."""

    dataset: str = Field(
        default="example", description="Name of the dataset: a folder under configs/, and the partition."
    )
    kind: Literal["amazon", "yelp"] = Field(default="amazon", description="Which aspects a review has.")
    from_reviews: bool = Field(default=False, description="Start from raw reviews, which a language model prepares.")
    key_prefix: list[str] = Field(default_factory=list, description="Begins all asset keys.")


class DatasetScaffolder(dg.Scaffolder[DatasetParams]):
    """A component, the configuration of a dataset, and generated files to try it with."""

    @classmethod
    def get_scaffold_params(cls) -> type[DatasetParams]:
        """What `dg scaffold defs` asks for."""
        return DatasetParams

    def scaffold(self, request: dg.ScaffoldRequest[DatasetParams]) -> None:
        """Write the defs.yaml, and the dataset in configs/ and data/ of the project."""
        params, root = request.params, request.project_root or request.target_path
        prefix = {"key_prefix": params.key_prefix} if params.key_prefix else {}
        place = "{{ context.project_root }}/configs" if request.project_root else "configs"
        scaffold_component(request, {"config_dir": place, **prefix})
        if request.scaffold_format == "yaml":
            with (request.target_path / "defs.yaml").open("a") as file:
                file.write(MORE_ATTRIBUTES)
        write_dataset(Written(root), params)


@dataclass(frozen=True)
class Written:
    """A folder that files are written into: which were, and which were there."""

    root: Path
    new: list[Path] = field(default_factory=list)
    kept: list[Path] = field(default_factory=list)

    def text(self, place: str, content: str) -> None:
        """Write a file, unless it is there."""
        path = self.root / place
        if path.exists():
            self.kept.append(path)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        self.new.append(path)


def check_name(dataset: str) -> None:
    """Raise UsageError for a name that no dataset can have."""
    if dataset == "all" or not DATASET_NAME.fullmatch(dataset):
        rule = "letters, digits, _ and -, not beginning with _ or -, and not all"
        raise UsageError(f"--dataset must be {rule}, got {dataset!r}")


def write_dataset(written: Written, params: DatasetParams) -> None:
    """Write the commented configuration of a dataset, and generated raw files to run it with.

    Raises UsageError for a name that no dataset can have.
    """
    name, kind, from_reviews = params.dataset, params.kind, params.from_reviews
    check_name(name)
    for file in sorted((TEMPLATES / ("reviews" if from_reviews else kind)).iterdir(), key=lambda one: one.name):
        written.text(f"configs/{name}/{file.name}", _of_dataset(file.read_text(), name, kind))
    data = written.root / "data" / name
    if data.exists():
        written.kept.append(data)
    elif from_reviews:
        written.new.extend(write_raw_reviews(data, num_users=NUM_USERS, seed=SEED))
    else:
        written.new.extend(write_dataset_files(data, kind, num_users=NUM_USERS, seed=SEED))


def _of_dataset(template: str, name: str, kind: SchemaName) -> str:
    """A file of the repository's own datasets, with this one's name and places."""
    places = {
        f"../../data/sample/{kind}/": f"../../data/{name}/",
        f"../../outputs/{kind}": f"../../outputs/{name}",
        "../../../outputs/from-reviews/raw/": f"../../data/{name}/",
        "../../../outputs/from-reviews/gear": f"../../outputs/{name}",
        "# The sample data.": "# Generated data.",
        "# Generated raw reviews (`personarank sample-reviews`).": "# Generated raw reviews.",
        "schema: amazon": f"schema: {kind}",
    }
    for old, new in places.items():
        template = template.replace(old, new)
    return template
