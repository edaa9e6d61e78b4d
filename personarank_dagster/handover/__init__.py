"""Published lists for others: in a key-value store, and as parquet for a warehouse. No Dagster."""
