"""One user at a time: what an application calls, without Dagster."""
