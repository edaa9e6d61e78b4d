"""Both caches of a dataset: their assets, their checks, pictures."""
