"""Outputs as Dagster reads and writes them: their formats, their places, the IO manager."""
