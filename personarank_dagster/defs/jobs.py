"""Jobs: what is launched as one run per partition, and the report over all of them."""

import dagster as dg

REPORT = dg.AssetSelection.assets("metrics_report")

full_refresh_job = dg.define_asset_job(
    "full_refresh_job",
    selection=dg.AssetSelection.all() - REPORT,
    description="Everything from the raw files to the metrics, for one dataset.",
)

metrics_report_job = dg.define_asset_job(
    "metrics_report_job", selection=REPORT, description="The summary over all datasets."
)
