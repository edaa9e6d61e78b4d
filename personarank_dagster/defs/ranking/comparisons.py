"""Two versions of the metrics of a dataset, user by user: which is better, and whether chance explains it."""

from dataclasses import dataclass
from typing import Any

import polars as pl

from personarank_dagster.core.errors import InputError, StorageError
from personarank_dagster.defs.platform.io.formats import PLACES
from personarank_dagster.defs.platform.resources import ProjectResource
from personarank_dagster.ranking.metrics import holm, lifts, metrics_at
from personarank_dagster.storage.tables import TABLE
from personarank_dagster.storage.versions import Version

ASSET = "rerank_metrics"


@dataclass(frozen=True)
class Comparison:
    """One dict per metric and cut-off, over the users of both versions; `others` are users of one of them alone.

    A dict has metric, k, first, second, lift of the second over the first with its 95 % interval (low, high), and p,
    corrected for all of them (Holm). What the first has 0 of has no lift.
    """

    partition: str
    users: int
    others: int
    metrics: list[dict[str, Any]]


def compare_versions(project: ProjectResource, partition: str, first: str, second: str) -> Comparison:
    """Compare the published orders behind two versions of rerank_metrics, by name.

    Raises StorageError for a version that is not there, or that an earlier release wrote without places of users;
    InputError if they share no user.
    """
    store = project.versions(ASSET, partition)
    before, after = (store.open(name) for name in (first, second))
    old, new = (_places(version) for version in (before, after))
    both = old.join(new, on="user_id", how="inner", suffix="_new", maintain_order="left")
    if both.is_empty():
        raise InputError(f"{partition}: versions {first} and {second} of {ASSET} must share users, and share none")
    ks = pl.read_parquet(after.directory / TABLE)["k"].unique().sort().to_list()
    places = both["reranked"].to_numpy(), both["reranked_new"].to_numpy()
    means, found = [metrics_at(of_order, ks) for of_order in places], lifts(*places, ks)
    corrected = holm([lift.p for lift in found.values()])
    rows = []
    for (key, lift), p in zip(found.items(), corrected, strict=True):
        metric, k = key.split("@")
        row = {"metric": metric, "k": int(k), "first": means[0][key], "second": means[1][key]}
        rows.append(row | {"lift": lift.lift, "low": lift.low, "high": lift.high, "p": p})
    return Comparison(partition, both.height, old.height + new.height - 2 * both.height, rows)


def _places(version: Version) -> pl.DataFrame:
    path = version.directory / PLACES
    if not path.exists():
        raise StorageError(
            f"{version.address}: holds no places of users, since an earlier release wrote it; "
            f"`personarank run --select {ASSET} --force` makes one that does"
        )
    return pl.read_parquet(path, columns=["user_id", "reranked"])
