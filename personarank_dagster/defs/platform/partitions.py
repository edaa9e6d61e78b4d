"""Partitions of a graph: one per dataset, and what belongs to none."""

# Folder name where an asset without partitions keeps its versions.
UNPARTITIONED = "_all"
