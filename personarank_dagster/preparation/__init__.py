"""From raw reviews to personas, by way of any OpenAI-compatible server; no Dagster."""
