"""Persona reranking as a Dagster asset graph: trains, caches, reranks, explains and measures."""

__version__ = "0.1.0"
