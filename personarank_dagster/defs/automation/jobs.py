"""Jobs: what is launched as one run per partition, and the report over all of them."""

import dagster as dg

from personarank_dagster.defs.platform.declarations import pod_of_run

REPORT = dg.AssetSelection.assets("metrics_report")
CACHES = dg.AssetSelection.groups("caches")

full_refresh_job = dg.define_asset_job(
    "full_refresh_job",
    selection=dg.AssetSelection.all() - REPORT,
    description="Everything from the raw files to the metrics, for one dataset.",
    tags=pod_of_run(),
)

data_validation_job = dg.define_asset_job(
    "data_validation_job",
    selection=dg.AssetSelection.groups("inputs"),
    description="Reads the raw files of one dataset and checks the data; trains and ranks nothing.",
)

retrain_job = dg.define_asset_job(
    "retrain_job",
    selection=dg.AssetSelection.assets("trained_encoder").downstream() - REPORT,
    description="Trains the encoder of one dataset anew, and makes everything after it: caches, lists, metrics.",
    tags=pod_of_run(),
)

recache_job = dg.define_asset_job(
    "recache_job",
    selection=CACHES.downstream() - REPORT,
    description="Makes the caches of one dataset anew with its current encoder, and everything after them.",
    tags=pod_of_run(),
)

evaluate_job = dg.define_asset_job(
    "evaluate_job",
    selection=dg.AssetSelection.groups("ranking", "handover") - REPORT,
    description="Reranks the lists of one dataset with its current caches, measures, and hands them over.",
)

metrics_report_job = dg.define_asset_job(
    "metrics_report_job", selection=REPORT, description="The summary over all datasets."
)

DATASET_JOBS = {
    job.name: job for job in (full_refresh_job, data_validation_job, retrain_job, recache_job, evaluate_job)
}
