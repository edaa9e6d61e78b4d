"""A Dagster project with assets of its own around the graph."""
