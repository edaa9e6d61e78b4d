"""Raw files as tables: their assets, the checks of the data, pictures."""
