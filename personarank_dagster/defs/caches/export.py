"""The current caches of a dataset in the layout of the public scripts."""

from pathlib import Path

from personarank_dagster.defs.platform.io.outputs import Outputs
from personarank_dagster.defs.platform.kept_vectors import CACHES
from personarank_dagster.vectors.embeddings import made_with, read_embeddings
from personarank_dagster.vectors.external_caches import write_external_interactions, write_external_personas


def export_caches(outputs: Outputs, out: Path) -> list[Path]:
    """Write the current caches of a dataset in the layout of the public scripts; returns the two folders."""
    interactions, personas = (outputs.versions(asset).current() for asset in CACHES)
    folders = [out / "user_item", out / "item_persona"]
    write_external_interactions(folders[0], read_embeddings(interactions.directory), made_with(interactions))
    write_external_personas(folders[1], read_embeddings(personas.directory), made_with(personas))
    return folders
