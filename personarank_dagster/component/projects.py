"""New projects around the component, and the component of the project in this folder."""

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from personarank_dagster.component.project_files import mentions_component, project_table
from personarank_dagster.configuration.dataset import CONFIG_DIR_VARIABLE
from personarank_dagster.configuration.out_roots import OUT_ROOT_VARIABLE, Override
from personarank_dagster.core.errors import ConfigError
from personarank_dagster.defs.platform.mounts import Mount

if TYPE_CHECKING:
    from personarank_dagster.component.component import PersonaRankComponent


def mount_here() -> Mount:
    """The graph that commands in this folder mean: that of the project's component, else of its configs.

    $PERSONARANK_CONFIG_DIR chooses one of several components, or datasets that belong to none; $PERSONARANK_OUT_ROOT
    counts before what the component says. Raises ConfigError if there are several and none is chosen.
    """
    mounts, chosen = mounts_of(Path.cwd()), os.environ.get(CONFIG_DIR_VARIABLE)
    if chosen:
        mounts = [one for one in mounts if one.folder == Path(chosen).absolute()]
    if len(mounts) > 1:
        raise ConfigError(
            f"{Path.cwd()}: a command means one component, and here are several; choose by --config-dir one of "
            f"{', '.join(sorted(str(one.folder) for one in mounts))}"
        )
    mount = mounts[0] if mounts else Mount()
    return replace(mount, override=Override.of_environment()) if os.environ.get(OUT_ROOT_VARIABLE) else mount


def mounts_of(folder: Path) -> list[Mount]:
    """The graphs of a project's components; none where the folder is no project."""
    if not mentions_component(folder):
        return []
    project = project_table(folder)
    module = project["root_module"]
    location = project.get("code_location_name") or folder.name
    target = project.get("code_location_target_module") or f"{module}.definitions"
    return [replace(one.mount, location=location, module=target) for one in _components(folder)]


def _components(folder: Path) -> "Sequence[PersonaRankComponent]":
    from dagster.components.core.component_tree import ComponentTree

    from personarank_dagster.component.component import PersonaRankComponent

    for part in (folder, folder / "src"):
        if str(part) not in sys.path:
            sys.path.insert(0, str(part))
    return ComponentTree.for_project(folder).get_all_components(of_type=PersonaRankComponent)


def as_module(name: str) -> str:
    """A folder's name as that of a Python module."""
    module = re.sub(r"\W+", "_", name.lower(), flags=re.ASCII).strip("_")
    return module if module and not module[0].isdigit() else f"project_{module}"
