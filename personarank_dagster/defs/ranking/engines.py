"""Where the lists of a step are ranked: by this process, or on a cluster."""

from collections.abc import Iterator
from contextlib import contextmanager

from personarank_dagster.defs.platform.compute import ComputeResource
from personarank_dagster.defs.platform.exchanges import exchange_of
from personarank_dagster.defs.platform.kept_vectors import CACHES
from personarank_dagster.defs.platform.steps import Step
from personarank_dagster.ranking.elsewhere import Elsewhere
from personarank_dagster.storage.tables import TABLE


@contextmanager
def ranked_elsewhere(
    step: Step, compute: ComputeResource, lists: str, *, k: int, gamma: float
) -> Iterator[Elsewhere | None]:
    """What ranks the lists of an asset, by the caches that the step reads and a ranker of these rules.

    None where that is this process.
    """
    cluster = compute.cluster()
    if cluster is None:
        yield None
        return
    from personarank_dagster.distributed.ranking import Recipe, ranked_on_ray

    interactions, personas = (step.sight.version(name).directory for name in CACHES)
    table = step.sight.version(lists).directory / TABLE
    recipe = Recipe(interactions, personas, k, gamma)
    with (
        exchange_of(step) as (exchange, scratch),
        ranked_on_ray(cluster, table, recipe, exchange, scratch) as elsewhere,
    ):
        yield elsewhere
