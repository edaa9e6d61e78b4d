"""Projects that `personarank init` writes, and the graph that commands in them mean."""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from personarank_dagster.command_line.cli import main
from personarank_dagster.command_line.instances import Root, use_instance
from personarank_dagster.component.datasets_here import datasets_here
from personarank_dagster.component.projects import as_module, mount_here
from personarank_dagster.core.errors import ConfigError
from personarank_dagster.service.command import places
from tests.forked import personarank


def init(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["init", *arguments])


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project with a prefix, which is the current folder."""
    monkeypatch.chdir(tmp_path)
    assert init("shop-1", "--dataset", "films", "--schema", "yelp", "--key-prefix", "search/films").exit_code == 0
    monkeypatch.chdir("shop-1")
    path = [*sys.path]
    yield tmp_path / "shop-1"
    sys.path[:] = path
    for name in [name for name in sys.modules if name.split(".")[0] == "shop_1"]:
        del sys.modules[name]


def test_a_new_project_is_validated_at_once(project: Path) -> None:
    result = personarank(["validate"], folder=project)
    assert (result.returncode, "films: of " in result.stdout) == (0, True), result.stderr
    assert (project / "outputs/films/versions/histories/films/CURRENT").exists()


def test_commands_in_a_project_mean_its_component(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mount = mount_here()
    assert mount.key("histories").path == ["search", "films", "histories"]
    assert (mount.location, mount.module, mount.datasets) == ("shop_1", "shop_1.definitions", ["films"])
    monkeypatch.setenv("PERSONARANK_OUT_ROOT", str(project / "elsewhere"))
    assert mount_here().dataset("films").data.out_root == project / "elsewhere" / "films"
    monkeypatch.setenv("PERSONARANK_CONFIG_DIR", str(project / "others"))
    assert mount_here().key_prefix == ()


@pytest.fixture
def another(project: Path) -> Path:
    """The datasets of a second component of the project."""
    defs = project / "shop_1/defs/other/defs.yaml"
    defs.parent.mkdir()
    defs.write_text(f"type: personarank_dagster.PersonaRankComponent\nattributes: {{config_dir: {project}/more}}\n")
    return project / "more"


@pytest.mark.usefixtures("another")
def test_of_several_components_one_must_be_chosen(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"here are several; choose by --config-dir one of .*configs, .*more"):
        mount_here()
    monkeypatch.setenv("PERSONARANK_CONFIG_DIR", str(project / "configs"))
    assert mount_here().key_prefix == ("search", "films")


def test_runs_of_a_component_that_was_chosen_are_in_the_instance_of_the_project(
    project: Path, another: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERSONARANK_CONFIG_DIR", str(another))
    for place, home in (("", project), ("tried", project / "tried/more/.dagster/more")):
        monkeypatch.setenv("PERSONARANK_OUT_ROOT", place)
        monkeypatch.setenv("DAGSTER_HOME", "")
        use_instance(Root(str(project / "configs")))
        assert os.environ["DAGSTER_HOME"] == str(home)


def test_commands_without_dagster_read_the_component_too(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "configs").rename(project / "settings")
    defs = project / "shop_1/defs/personarank/defs.yaml"
    more = "  out_root: '{{ context.project_root }}/made'\n  raw_assets: {loo_history: [warehouse, histories]}\n"
    defs.write_text(defs.read_text().replace("}}/configs", "}}/settings") + more)
    data = project / "settings/films/data.yaml"
    data.write_text(re.sub(r"^loo_history.*\n", "", data.read_text(), flags=re.MULTILINE))
    with pytest.raises(ConfigError, match=f"{project}/settings: no dataset has outputs yet"):
        places(datasets_here(), [])
    (place,) = places(datasets_here(), ["films"])
    assert place.folder == project / "made" / "films"
    monkeypatch.setenv("PERSONARANK_OUT_ROOT", str(project / "elsewhere"))
    assert datasets_here().load("films").data.out_root == project / "elsewhere" / "films"


def test_nothing_that_is_there_is_written_over(project: Path) -> None:
    edited = {path: path.read_bytes() + b"\n# mine\n" for path in project.rglob("*") if path.is_file()}
    for path, content in edited.items():
        path.write_bytes(content)
    result = init(str(project), "--dataset", "films", "--schema", "yelp")
    assert (result.exit_code, "wrote  0 files" in result.output) == (0, True)
    assert {path: path.read_bytes() for path in edited} == edited


def test_a_dataset_from_raw_reviews_names_the_server_to_start(tmp_path: Path) -> None:
    result = init(str(tmp_path / "new"), "--dataset", "gear", "--from-reviews")
    assert "personarank llm-stand-in --port 8391" in result.output
    assert "raw_reviews: ../../data/gear/reviews.jsonl.gz" in (tmp_path / "new/configs/gear/data.yaml").read_text()
    assert (tmp_path / "new/data/gear/reviews.jsonl.gz").exists()


def test_a_name_that_no_dataset_can_have_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    result = init(str(tmp_path / "new"), "--dataset", "../x")
    assert (result.exit_code, "--dataset must be letters" in result.output) == (2, True)
    assert not (tmp_path / "new").exists()


def test_the_name_of_a_folder_becomes_one_of_a_module() -> None:
    assert [as_module(name) for name in ("shop-1", "My Shop", "2shops")] == ["shop_1", "my_shop", "project_2shops"]
