"""Persona reranking as a Dagster asset graph: trains, caches, reranks, explains and measures."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from personarank_dagster.version import __version__

if TYPE_CHECKING:
    from personarank_dagster.component.component import PersonaRankComponent
    from personarank_dagster.component.mounted import build_definitions
    from personarank_dagster.serving.reranker import Reranker

__all__ = ["PersonaRankComponent", "Reranker", "__version__", "build_definitions"]

# Where each is, to be loaded when it is asked for: the command line and services do without most of it.
PLACES = {
    "PersonaRankComponent": "personarank_dagster.component.component",
    "Reranker": "personarank_dagster.serving.reranker",
    "build_definitions": "personarank_dagster.component.mounted",
}


def __getattr__(name: str) -> Any:
    """Load what is public when it is asked for."""
    if name not in PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(PLACES[name]), name)


def __dir__() -> list[str]:
    """What is public, also what is not loaded yet: `dg` looks here for components."""
    return __all__
