"""What all assets of the graph share: how they are declared, and how they hand over their value."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import dagster as dg

from personarank_dagster.defs.platform.columns import COLUMNS, table_schema
from personarank_dagster.defs.platform.figures import Draw, drawn
from personarank_dagster.defs.platform.io_manager import DATA_VERSION
from personarank_dagster.defs.platform.partitions import UNPARTITIONED, dataset_partitions
from personarank_dagster.defs.platform.provenance import CODE_VERSIONS, RAW, RAW_INPUTS
from personarank_dagster.defs.platform.resources import ProjectResource
from personarank_dagster.defs.platform.retries import RETRIES, retried_if_passing

# On Kubernetes: the pod of a run, or of a step where each has its own, gets a GPU.
GPU_POD = {"dagster-k8s/config": {"container_config": {"resources": {"limits": {"nvidia.com/gpu": "1"}}}}}

# One heavy step at a time; the limit is in dagster.yaml.
GPU_STEP: Mapping[str, Any] = {"pool": "gpu", "op_tags": GPU_POD}

# Whom the UI names; put your own team here.
OWNERS = ["team:recommendation"]


def graph_asset(
    name: str, group: str, kinds: set[str], **options: Any
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """`dg.asset` with what all assets of the graph share, unless the options say otherwise."""
    shared: dict[str, Any] = {
        "partitions_def": dataset_partitions,
        "code_version": CODE_VERSIONS[name],
        "deps": [dg.AssetKey([RAW, key]) for key in RAW_INPUTS.get(name, ())],
        "metadata": {"dagster/column_schema": table_schema(name)} if name in COLUMNS else {},
        "owners": OWNERS,
        "retry_policy": RETRIES,
        "automation_condition": dg.AutomationCondition.eager(),
    }
    decorator = dg.asset(name=name, group_name=group, kinds=kinds, **(shared | options))
    return lambda body: decorator(retried_if_passing()(body))


def result(
    project: ProjectResource,
    context: dg.AssetExecutionContext,
    value: Any,
    metadata: Mapping[str, Any],
    *,
    pictures: Mapping[str, Draw] = MappingProxyType({}),
) -> dg.MaterializeResult[Any]:
    """The value with its content hash as data version, and the pictures that can be drawn."""
    asset = context.asset_key.path[-1]
    partition = context.partition_key if context.has_partition_key else UNPARTITIONED
    version = project.format(asset, partition).version_of(value)
    numbers = {name: _rounded(found) for name, found in metadata.items()} | {DATA_VERSION: version}
    shown = drawn(pictures, lambda problem: context.log.warning(f"{asset} ({partition}): {problem}"))
    return dg.MaterializeResult(value=value, metadata=numbers | shown, data_version=dg.DataVersion(version))


def left_out(reasons: Mapping[str, int]) -> dict[str, int]:
    """Metadata: how many rows an asset leaves out, in all and by reason."""
    return {"left_out": sum(reasons.values())} | {f"left out: {why}": count for why, count in reasons.items()}


def _rounded(value: Any) -> Any:
    """Six digits of a number, which is what a person reads."""
    return float(f"{value:.6g}") if isinstance(value, float) else value
