"""One partition per dataset: every subfolder of the configuration with a data.yaml."""

import dagster as dg

from personarank_dagster.configuration.dataset import config_dir, dataset_names

dataset_partitions = dg.StaticPartitionsDefinition(dataset_names(config_dir()))

# Folder name where an asset without partitions keeps its versions.
UNPARTITIONED = "_all"
