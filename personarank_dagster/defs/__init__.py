"""Dagster, thin: partitions, resources, IO managers, assets, jobs."""
