"""The graph as a component of `dg`: a defs.yaml is all that a project writes."""

from typing import Annotated, Any, Literal

import dagster as dg
from pydantic import Field

from personarank_dagster.component.mounted import mount_of, mounted_definitions
from personarank_dagster.component.scaffolding import DatasetScaffolder
from personarank_dagster.configuration.out_roots import is_address
from personarank_dagster.defs.platform.compute import ComputeResource
from personarank_dagster.defs.platform.mounts import OWNERS, Mount
from personarank_dagster.defs.platform.resources import GpuResource, ProjectResource


def _place(context: dg.ResolutionContext, value: str) -> str:
    """A folder as seen from the defs.yaml; an address as it is."""
    text = str(context.resolve_value(value))
    return text if is_address(text) else str(context.resolve_source_relative_path(text))


def _described(description: str, examples: list[Any] | None = None) -> dg.Resolver:
    resolver: dg.Resolver = dg.Resolver.default(description=description, examples=examples)
    return resolver


class GpuModel(dg.Model, dg.Resolvable):
    """The device that computes; a run can say otherwise."""

    device: Literal["auto", "cuda", "mps", "cpu"] = "auto"
    devices: Annotated[int, Field(ge=0, le=64)] = 0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    memory_share: Annotated[float, Field(ge=0.05, le=1)] = 1.0


class ComputeModel(dg.Model, dg.Resolvable):
    """Where texts are encoded and lists ranked; a run can say otherwise."""

    engine: Literal["local", "ray"] = "local"
    actors: Annotated[int, Field(ge=0, le=4096)] = 0
    cpus_per_actor: Annotated[float, Field(ge=0.1, le=256)] = 1.0
    gpus_per_actor: Annotated[float, Field(ge=0, le=8)] = 0.0


@dg.scaffold_with(DatasetScaffolder)
class PersonaRankComponent(dg.Component, dg.Model, dg.Resolvable):
    """Persona reranking: trains, caches, reranks, explains and measures; one partition for each dataset.

    A recommender has a list of candidates per user, and a language model has written for each item who would like
    it. From such files an encoder is trained that puts users and personas into one space, and each list is put into
    a better order, with the persona behind each place. Assets are checked, versioned, and made anew only where what
    they are made from changed.

    `dg scaffold defs personarank_dagster.PersonaRankComponent NAME` writes a dataset to start from. Two components
    in one code location differ in `key_prefix`.
    """

    config_dir: Annotated[
        str,
        dg.Resolver(
            _place,
            model_field_type=str,
            description="Folder of the datasets, as seen from this file: each has a folder of its own with "
            "data.yaml, train.yaml and rerank.yaml, and is a partition.",
            examples=["{{ context.project_root }}/configs"],
        ),
    ]
    out_root: Annotated[
        str | None,
        dg.Resolver(
            lambda context, value: None if value is None else _place(context, value),
            model_field_type=str | None,
            description="Outputs go to <out_root>/<dataset>: a folder, as seen from this file, or "
            "s3://bucket/prefix. Without it they go where data.yaml of each dataset says.",
            examples=["{{ context.project_root }}/outputs", "s3://bucket/personas"],
        ),
    ] = None
    key_prefix: Annotated[
        list[str],
        _described(
            "Begins all asset keys and, joined by _, the names of jobs, schedules, sensors and resources.",
            examples=[["search", "books"]],
        ),
    ] = Field(default_factory=list)
    group_name: Annotated[str | None, _described("One group for all assets; without it one for each stage.")] = None
    owners: Annotated[list[str], _described("Owners of all assets.", examples=[["team:search"]])] = Field(
        default_factory=lambda: [*OWNERS]
    )
    tags: Annotated[dict[str, str], _described("Tags of all assets.")] = Field(default_factory=dict)
    schedules: Annotated[bool, _described("A schedule for each dataset, as its schedule.yaml says.")] = True
    sensors: Annotated[bool, _described("The sensor of raw files, and that of automation conditions.")] = True
    gpu: Annotated[GpuModel, _described("The device that computes; a run can say otherwise.")] = Field(
        default_factory=GpuModel
    )
    compute: Annotated[ComputeModel, _described("This machine, or a Ray cluster; a run can say otherwise.")] = Field(
        default_factory=ComputeModel
    )
    pool: Annotated[str, _described("Concurrency pool of the assets that compute on the device.")] = "gpu"
    raw_assets: Annotated[
        dict[str, list[str]],
        _described(
            "Assets that stand for raw files, by the keys of data.yaml: their IO manager loads them as polars frames "
            "with the columns of the file.",
            examples=[{"loo_history": ["warehouse", "histories"]}],
        ),
    ] = Field(default_factory=dict)

    @classmethod
    def get_spec(cls) -> dg.ComponentTypeSpec:
        """What `dg list components` says of it."""
        return dg.ComponentTypeSpec(
            description="Reranks lists of candidates by personas that a language model wrote, and measures the gain.",
            owners=[*OWNERS],
            tags=["recommendation", "ranking"],
        )

    @property
    def mount(self) -> Mount:
        """Where the graph stands."""
        return mount_of(
            self.config_dir,
            out_root=self.out_root,
            key_prefix=self.key_prefix,
            group_name=self.group_name,
            owners=self.owners,
            tags=self.tags,
            pool=self.pool,
            raw_assets=self.raw_assets,
        )

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The definitions of the graph."""
        return mounted_definitions(
            ProjectResource(mount=self.mount),
            gpu=GpuResource(**self.gpu.model_dump()),
            compute=ComputeResource(**self.compute.model_dump()),
            schedules=self.schedules,
            sensors=self.sensors,
        )
