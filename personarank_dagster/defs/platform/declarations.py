"""How an asset is declared: everything that is decided about it, in one place, beside its function.

What an asset is made from, its format and its checks are looked up here by its name.
"""

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import dagster as dg

from personarank_dagster.configuration.dataset import DatasetConfig
from personarank_dagster.configuration.settings import RAW_FILE_KEYS
from personarank_dagster.core.aspects import ASPECTS_BY_SCHEMA, SchemaName
from personarank_dagster.defs.platform.columns import COLUMN_SCHEMA, described_by_schema
from personarank_dagster.defs.platform.io.formats import OutputFormat
from personarank_dagster.defs.platform.mounts import Mount
from personarank_dagster.defs.platform.retries import RETRIES, retried_if_passing

RAW = "raw"

# On Kubernetes: the pod of a step, where each has its own, gets a GPU.
GPU_POD = {"dagster-k8s/config": {"container_config": {"resources": {"limits": {"nvidia.com/gpu": "1"}}}}}

# One heavy step at a time; the limit is in dagster.yaml.
GPU_STEP: Mapping[str, Any] = {"pool": "gpu", "op_tags": GPU_POD}

# So many stages ask a language model at a time.
LLM_STEP: Mapping[str, Any] = {"pool": "llm"}


@dataclass(frozen=True)
class Found:
    """Whether a check's name is true, and the numbers behind it."""

    passed: bool
    numbers: dict[str, Any] = field(default_factory=dict)
    # A check that only warns here, though it is one that can fail: nothing could be looked at.
    severity: dg.AssetCheckSeverity | None = None


@dataclass(frozen=True, kw_only=True)
class Check:
    """A check of one version of an asset; `find` is given a `Published`, and reads also the assets that it `needs`.

    A `blocking` one judges a version before that may become current; it must need nothing but what the asset is made
    from. The others are evaluated after it was published.
    """

    name: str
    asset: str
    find: Callable[[Any], Found]
    description: str | None
    needs: tuple[str, ...] = ()
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR
    blocking: bool = False


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """What is decided about an asset.

    `upstream` are the assets that its function takes, `raw` the keys of data.yaml without which it cannot be made,
    `optional_raw` those that it also reads where they are configured; settings leave some of both `unread`.
    `instead` are the assets among `upstream` that stand for its raw files, where none of these is configured and
    `stands_in` says so; where they do not, its function is given None.
    `settings` and `contents` give what else decides its result: values by name, and names of models and other files
    (see `snapshots`). `code_version` counts up when its code gives another result for the same inputs.
    Where it is not `wanted`, no run makes it unless it is named.
    """

    name: str
    group: str
    upstream: tuple[str, ...]
    raw: tuple[str, ...]
    optional_raw: tuple[str, ...]
    unread: Callable[[DatasetConfig], tuple[str, ...]]
    instead: tuple[str, ...]
    stands_in: Callable[[DatasetConfig], bool]
    settings: Callable[[DatasetConfig], Mapping[str, object]]
    contents: Callable[[DatasetConfig], tuple[str, ...]]
    code_version: str
    format: Callable[[SchemaName], OutputFormat[Any]]
    checks: tuple[Check, ...]
    partitioned: bool
    wanted: Callable[[DatasetConfig], bool]

    def reads(self, config: DatasetConfig | None) -> list[str]:
        """The assets that it is made from in this dataset; all of them where there is none."""
        if config is None:
            return list(self.upstream)
        unread = {*self.unread(config), *(() if self._without_files(config) else self.instead)}
        return [name for name in self.upstream if name not in unread]

    def is_made(self, config: DatasetConfig) -> bool:
        """Whether it is wanted, and the dataset has what it, and all that it comes from, cannot do without."""
        if not self.wanted(config):
            return False
        has_files = all(key in config.data.raw_files for key in self.raw)
        if not has_files and not (self.instead and self._without_files(config)):
            return False
        return all(_declared[upstream].is_made(config) for upstream in self.reads(config))

    def _without_files(self, config: DatasetConfig) -> bool:
        return self.stands_in(config) and not {*self.raw, *self.optional_raw} & config.data.raw_files.keys()

    def inputs_of(self, config: DatasetConfig) -> list[str]:
        """Names of all contents that it is made from, but for those of other assets."""
        read = [key for key in self.optional_raw if f"{RAW}/{key}" not in self.unread(config)]
        configured = [key for key in (*self.raw, *read) if key in config.data.raw_files]
        return [f"{RAW}/{key}" for key in configured] + list(self.contents(config))


_declared: dict[str, Declaration] = {}


def declared(asset: str) -> Declaration:
    """The declaration of an asset, by name. Raises KeyError for a name that is none."""
    return _declared[asset]


def asset_names(*, partitioned: bool | None = None) -> list[str]:
    """All assets, or those with or without partitions, each after all that it is made from."""

    def depth(name: str) -> int:
        return max((depth(upstream) + 1 for upstream in _declared[name].upstream), default=0)

    return sorted((name for name, one in _declared.items() if partitioned in (None, one.partitioned)), key=depth)


def names_in(*groups: str, partitioned: bool | None = None) -> list[str]:
    """Those of `asset_names` that are in one of the groups."""
    return [name for name in asset_names(partitioned=partitioned) if _declared[name].group in groups]


def names_after(name: str, *, partitioned: bool | None = None) -> list[str]:
    """Those of `asset_names` that are made from this one, however far away, after it itself."""
    after = {name}
    for one in asset_names():
        if not after.isdisjoint(_declared[one].upstream):
            after.add(one)
    return [one for one in asset_names(partitioned=partitioned) if one in after]


def check_declarations(assets: Mapping[str, object]) -> None:
    """Raise ValueError if graph and declarations differ, or if an asset names what is not there."""
    if assets.keys() != _declared.keys():
        raise ValueError(f"assets of the graph and declared assets must be the same, not {assets.keys() ^ _declared}")
    for one in _declared.values():
        if unknown := {*one.upstream, *one.instead} - assets.keys() | {*one.raw, *one.optional_raw} - {
            *RAW_FILE_KEYS
        }:
            raise ValueError(f"{one.name}: is made from {sorted(unknown)}, which is neither an asset nor a raw file")
        if wrong := [check.name for check in one.checks if check.asset != one.name]:
            raise ValueError(f"{one.name}: {wrong} are checks of another asset")


def bad_row_rules(config: DatasetConfig) -> dict[str, object]:
    """Settings that decide what is read of a raw file."""
    return {"on_bad_row": config.data.on_bad_row, "max_bad_share": config.data.max_bad_share}


def has_raw_reviews(config: DatasetConfig) -> bool:
    """Whether everything about the dataset is made from its raw reviews."""
    return config.prepare is not None


def no_settings(config: DatasetConfig) -> Mapping[str, object]:
    """For an asset that no setting decides."""
    return {}


# An asset of the graph, in the code location that has this mount.
GraphAsset = Callable[[Mount], dg.AssetsDefinition]


def graph_asset(
    *,
    group: str,
    kinds: set[str],
    settings: Callable[[DatasetConfig], Mapping[str, object]],
    format: Callable[[SchemaName], OutputFormat[Any]],  # noqa: A002 - the word of the design
    checks: tuple[Check, ...],
    raw: tuple[str, ...] = (),
    optional_raw: tuple[str, ...] = (),
    unread: Callable[[DatasetConfig], tuple[str, ...]] = lambda config: (),
    instead: tuple[str, ...] = (),
    stands_in: Callable[[DatasetConfig], bool] = has_raw_reviews,
    contents: Callable[[DatasetConfig], tuple[str, ...]] = lambda config: (),
    code_version: str = "1",
    wanted: Callable[[DatasetConfig], bool] = lambda config: True,
    **options: Any,
) -> Callable[[Callable[..., Any]], GraphAsset]:
    """Declare the decorated function as an asset, with what all assets of the graph share unless options say else."""

    def declare(body: Callable[..., Any]) -> GraphAsset:
        declaration = Declaration(
            name=body.__name__,
            group=group,
            upstream=_assets_among(body),
            raw=raw,
            optional_raw=optional_raw,
            unread=unread,
            instead=instead,
            stands_in=stands_in,
            settings=settings,
            contents=contents,
            code_version=code_version,
            format=format,
            checks=checks,
            partitioned="partitions_def" not in options,
            wanted=wanted,
        )
        _declared[declaration.name] = declaration
        return lambda mount: _mounted(declaration, body, mount, {"kinds": kinds, **options})

    return declare


def _mounted(
    declaration: Declaration, body: Callable[..., Any], mount: Mount, options: dict[str, Any]
) -> dg.AssetsDefinition:
    """The asset in a code location: under its keys, with the resources that it has there."""
    made: dict[str, Any] = {
        "name": declaration.name,
        "key_prefix": mount.key_prefix or None,
        "group_name": mount.group_of(declaration.group),
        "partitions_def": mount.partitions,
        "code_version": declaration.code_version,
        "deps": mount.keys(f"{RAW}/{key}" for key in (*declaration.raw, *declaration.optional_raw)),
        "metadata": _column_schema(declaration) | _link(body),
        "owners": [*mount.owners],
        "tags": dict(mount.tags),
        "retry_policy": RETRIES,
        "automation_condition": _eager_without(mount.keys(declaration.instead)),
        "io_manager_key": mount.called("io_manager"),
        **options,
        "ins": _inputs(declaration, mount, options.get("ins", {})),
    }
    if made.get("pool") == GPU_STEP["pool"]:
        made["pool"] = mount.pool
    given = with_resources(_where_made(retried_if_passing()(body)), mount)
    asset: dg.AssetsDefinition = dg.asset(**made, required_resource_keys=given.keys)(given.body)
    return asset


def _link(body: Callable[..., Any]) -> dict[str, Any]:
    """The link of the UI to the code; Dagster's own would be to what is wrapped around the function."""
    file, line = inspect.getsourcefile(body), inspect.getsourcelines(body)[1]
    reference = dg.LocalFileCodeReference(file_path=str(file), line_number=line)
    return {"dagster/code_references": dg.CodeReferencesMetadataValue(code_references=[reference])}


def _inputs(declaration: Declaration, mount: Mount, options: Mapping[str, dg.AssetIn]) -> dict[str, dg.AssetIn]:
    mapping = {name: one.partition_mapping for name, one in options.items()}
    return {
        name: dg.AssetIn(key=mount.key(name), partition_mapping=mapping.get(name)) for name in declaration.upstream
    }


@dataclass(frozen=True)
class Given:
    """A function of a context and other inputs, and the resources of the code location that it looks up there."""

    body: Callable[..., Any]
    keys: set[str]


def with_resources(body: Callable[..., Any], mount: Mount) -> Given:
    """Give a function the resources that it names by those of the mount: two graphs have a `project` each."""
    signature = inspect.signature(body)
    keys = {one.name: mount.called(one.name) for one in signature.parameters.values() if _is_resource(one.annotation)}

    @wraps(body)
    def run(context: Any, *args: Any, **kwargs: Any) -> Any:
        resources = {name: getattr(context.resources, key) for name, key in keys.items()}
        return body(context, *args, **kwargs, **resources)

    others = [one for name, one in signature.parameters.items() if name not in keys]
    run.__signature__ = signature.replace(parameters=others)  # type: ignore[attr-defined]
    run.__annotations__ = {name: one for name, one in body.__annotations__.items() if name not in keys}
    return Given(run, {*keys.values()})


# What an asset hands over in a dataset that does not have it; nothing is published.
NOT_MADE = "not made"


def _where_made(body: Callable[..., Any]) -> Callable[..., Any]:
    """Make an asset only in datasets that have it: a run of the UI names all of them."""

    @wraps(body)
    def run(context: dg.AssetExecutionContext, *args: Any, project: Any, **kwargs: Any) -> Any:
        name = context.asset_key.path[-1]
        if context.has_partition_key and not declared(name).is_made(project.dataset(context.partition_key)):
            reason = f"data.yaml of {context.partition_key} names nothing that {name} is made from"
            return dg.MaterializeResult(value=NOT_MADE, metadata={NOT_MADE: reason})
        return body(context, *args, project=project, **kwargs)

    return run


def _eager_without(instead: list[dg.AssetKey]) -> dg.AutomationCondition[Any]:
    """Make an asset anew when what it is made from changed, without waiting for what a dataset may not have."""
    missing = dg.AutomationCondition.any_deps_missing()
    eager = dg.AutomationCondition.eager()
    return eager.replace(missing, missing.ignore(dg.AssetSelection.assets(*instead))) if instead else eager


def _assets_among(body: Callable[..., Any]) -> tuple[str, ...]:
    """Names of the parameters that are neither the context nor resources: the assets that a function takes."""
    parameters = [one for one in inspect.signature(body).parameters.values() if one.name != "context"]
    return tuple(one.name for one in parameters if not _is_resource(one.annotation))


def _is_resource(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, dg.ConfigurableResource)


def pod_of_run(environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """The tag that gives the pod of a run a GPU; none outside of Kubernetes, where it would only be in the way."""
    return GPU_POD if "KUBERNETES_SERVICE_HOST" in environment else {}


def _column_schema(declaration: Declaration) -> dict[str, Any]:
    """The columns of an asset in datasets of every schema: the page of an asset shows these, whatever came last."""
    columns = {schema: declaration.format(schema).columns for schema in ASPECTS_BY_SCHEMA}
    return {COLUMN_SCHEMA: described_by_schema(columns)} if any(columns.values()) else {}
