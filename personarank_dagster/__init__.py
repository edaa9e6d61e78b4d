"""Persona reranking as a Dagster asset graph: trains, caches, reranks, explains and measures."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from personarank_dagster.serving.reranker import Reranker

__version__ = "0.1.0"
__all__ = ["Reranker", "__version__"]


def __getattr__(name: str) -> Any:
    """Load `Reranker` when it is asked for: the command line and Dagster do without it."""
    if name != "Reranker":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from personarank_dagster.serving.reranker import Reranker

    return Reranker
