"""The Dagster UI of this machine, and what guards it."""
