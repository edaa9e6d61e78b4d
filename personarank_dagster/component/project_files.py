"""What a project's files say of it, before Dagster is loaded."""

import tomllib
from pathlib import Path
from typing import Any

COMPONENT = "PersonaRankComponent"


def project_table(folder: Path) -> dict[str, Any]:
    """The table of `dg` in pyproject.toml; {} where there is none."""
    try:
        settings = tomllib.loads((folder / "pyproject.toml").read_text())
    except (OSError, tomllib.TOMLDecodeError):
        return {}
    project = settings.get("tool", {}).get("dg", {}).get("project", {})
    return dict(project) if isinstance(project, dict) else {}


def mentions_component(folder: Path) -> bool:
    """Whether to load the project's components at all, which takes a second."""
    module = project_table(folder).get("root_module")
    if not module:
        return False
    roots = [folder / part / module.replace(".", "/") for part in ("", "src")]
    return any(COMPONENT in path.read_text() for root in roots for path in root.rglob("defs.y*ml"))
