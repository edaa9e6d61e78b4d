"""Dagster, thin, stage by stage: inputs, training, caches, ranking, on one platform, run by one automation."""

import warnings

import dagster as dg

# Observable sources are a beta API of Dagster; there is no other for raw files with data versions.
warnings.filterwarnings("ignore", message="Function `observable_source_asset`", category=dg.BetaWarning)
# Without a partitions_def a check would load every partition.
warnings.filterwarnings(
    "ignore", message="Specifying a partitions_def on an AssetCheckSpec", category=dg.PreviewWarning
)
# The switch of automation conditions is for the raw files too, which are sources.
warnings.filterwarnings("ignore", message="Parameter `include_sources`", category=dg.BetaWarning)
# Several ranks report through Dagster Pipes, which says this of its own insides.
warnings.filterwarnings(
    "ignore", message="Function `PipesMessageReader.expected_writer_count`", category=dg.PreviewWarning
)
# Links from assets to their code, in the UI.
for name in ("Class `LocalFileCodeReference`", "Class `CodeReferencesMetadataValue`"):
    warnings.filterwarnings("ignore", message=name, category=dg.BetaWarning)
