"""Jobs: what is launched as one run per partition, and the report over all of them."""

from dataclasses import dataclass

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from personarank_dagster.defs.platform.declarations import RAW, asset_names, names_after, names_in, pod_of_run
from personarank_dagster.defs.platform.mounts import Mount

REPORT, FULL_REFRESH, REPORT_JOB = "metrics_report", "full_refresh_job", "metrics_report_job"


@dataclass(frozen=True)
class Job:
    """The assets that one run makes of a dataset, or the report over all of them."""

    name: str
    assets: tuple[str, ...]
    description: str
    computes: bool = False

    def names(self, mount: Mount) -> list[str]:
        """The assets in a code location, with copies of raw files where it reads any."""
        copies = [f"{RAW}/{key}" for key in mount.raw_assets] if {*names_in("inputs")} <= {*self.assets} else []
        return [*copies, *self.assets]

    def mounted(self, mount: Mount) -> UnresolvedAssetJobDefinition:
        """The job in a code location."""
        return dg.define_asset_job(
            mount.called(self.name),
            selection=dg.AssetSelection.assets(*mount.keys(self.names(mount))),
            description=self.description,
            tags=pod_of_run() if self.computes else {},
        )


def dataset_jobs() -> dict[str, Job]:
    """The jobs of one dataset, by their names, once all assets are declared."""
    caches = {name for cache in names_in("caches") for name in names_after(cache)}
    every = asset_names(partitioned=True)
    jobs = (
        Job(
            FULL_REFRESH,
            tuple(every),
            "Everything from the raw files to the metrics, for one dataset.",
            computes=True,
        ),
        Job(
            "data_validation_job",
            tuple(names_in("inputs")),
            "Reads the raw files of one dataset and checks the data; trains and ranks nothing.",
        ),
        Job(
            "retrain_job",
            tuple(names_after("trained_encoder", partitioned=True)),
            "Trains the encoder of one dataset anew, and makes everything after it: caches, lists, metrics.",
            computes=True,
        ),
        Job(
            "recache_job",
            tuple(name for name in every if name in caches),
            "Makes the caches of one dataset anew with its current encoder, and everything after them.",
            computes=True,
        ),
        Job(
            "evaluate_job",
            tuple(names_in("ranking", "handover", partitioned=True)),
            "Reranks the lists of one dataset with its current caches, measures, and hands them over.",
        ),
    )
    return {job.name: job for job in jobs}


report_job = Job(REPORT_JOB, (REPORT,), "The summary over all datasets.")
