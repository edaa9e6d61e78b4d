from pathlib import Path

import pytest

from personarank_dagster.command_line.reports.graph_picture import draw_graph
from personarank_dagster.core.errors import ConfigError
from personarank_dagster.definitions import defs


def test_a_mistyped_path_makes_no_folders(tmp_path: Path) -> None:
    out = tmp_path / "nonexistent" / "x.svg"
    with pytest.raises(ConfigError, match=r"x\.svg: the folder .*nonexistent must be there, and is not"):
        draw_graph(defs.resolve_all_asset_specs(), out)
    assert list(tmp_path.iterdir()) == []
