"""`personarank serve`: reranking over HTTP, and a page to look at. A bare ASGI application, without Dagster."""
