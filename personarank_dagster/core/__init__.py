"""Pure numpy and polars: configuration, texts, profiles, ranking, metrics. No Dagster, no torch, no writes."""
