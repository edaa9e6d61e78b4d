"""The component in a project of Dagster's own sandbox, alone and beside another."""

import os
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster.components.testing.utils import create_defs_folder_sandbox

import personarank_dagster
from personarank_dagster import PersonaRankComponent, build_definitions
from personarank_dagster.core.errors import ConfigError
from personarank_dagster.definitions import defs as own
from tests.workspace import ROOT, copy_sample

TYPE = "personarank_dagster.PersonaRankComponent"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the sample's datasets; environment and current folder name datasets that are not there."""
    copy_sample(tmp_path)
    for variable in ("CONFIG_DIR", "OUT_ROOT", "WORK_DIR"):
        monkeypatch.setenv(f"PERSONARANK_{variable}", "/nowhere")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    return tmp_path


def loaded(**attributes: Any) -> dg.Definitions:
    """Definitions of a component with these attributes in its defs.yaml."""
    contents = {"type": TYPE, "attributes": attributes}
    with create_defs_folder_sandbox() as sandbox:
        folder = sandbox.scaffold_component(PersonaRankComponent, defs_yaml_contents=contents)
        with sandbox.load_component_and_build_defs(folder) as (_, definitions):
            return definitions


def names(definitions: dg.Definitions) -> dict[str, set[str]]:
    """What could clash with another graph in a code location."""
    repository = definitions.get_repository_def()
    return {
        "keys": {spec.key.to_user_string() for spec in definitions.resolve_all_asset_specs()},
        "checks": {key.to_user_string() for key in repository.asset_graph.asset_check_keys},
        "jobs": {job.name for job in repository.get_all_jobs()} - {"__ASSET_JOB"},
        "schedules": {one.name for one in repository.schedule_defs},
        "sensors": {one.name for one in repository.sensor_defs},
        "resources": {*(definitions.resources or {})},
        "groups": {spec.group_name or "" for spec in definitions.resolve_all_asset_specs()},
    }


def test_a_scaffolded_component_loads_at_once_and_has_the_dataset_that_was_asked_for() -> None:
    with create_defs_folder_sandbox() as sandbox:
        folder = sandbox.scaffold_component(
            PersonaRankComponent, scaffold_params={"dataset": "films", "kind": "yelp"}
        )
        with sandbox.load_component_and_build_defs(folder) as (component, definitions):
            assert isinstance(component, PersonaRankComponent)
            histories = definitions.resolve_assets_def("histories")
        root = folder.parents[3]
        assert "schema: yelp" in (root / "configs/films/data.yaml").read_text()
    assert histories.partitions_def == dg.StaticPartitionsDefinition(["films"])


def test_what_the_defs_yaml_says_is_all_that_counts(elsewhere: Path) -> None:
    definitions = loaded(
        config_dir=str(elsewhere / "configs"),
        out_root=str(elsewhere / "out"),
        key_prefix=["search", "books"],
        group_name="books",
        owners=["team:search"],
        tags={"domain": "books"},
        pool="cards",
        gpu={"device": "cpu"},
        schedules=False,
    )
    spec = next(one for one in definitions.resolve_all_asset_specs() if one.key.path[-1] == "trained_encoder")
    assert (spec.key.path, spec.group_name, list(spec.owners)) == (
        ["search", "books", "trained_encoder"],
        "books",
        ["team:search"],
    )
    assert spec.tags["domain"] == "books"
    assert definitions.resolve_assets_def(spec.key).op.pool == "cards"
    assert (names(definitions)["schedules"], len(names(definitions)["sensors"])) == (set(), 2)
    project = dict(definitions.resources or {})["search_books_project"]
    assert project.outputs("yelp").folder == elsewhere / "out" / "yelp"
    assert project.outputs("_all").folder == elsewhere / "out"


def test_without_an_out_root_data_yaml_says_where_whatever_the_environment_says(elsewhere: Path) -> None:
    project = dict(loaded(config_dir=str(elsewhere / "configs")).resources or {})["personarank_project"]
    assert project.outputs("amazon").folder == elsewhere / "outputs" / "amazon"
    assert project.outputs("_all").folder == elsewhere / "outputs"


def test_folders_are_seen_from_the_defs_yaml(elsewhere: Path) -> None:
    with create_defs_folder_sandbox() as sandbox:
        contents = {"type": TYPE, "attributes": {"config_dir": "mine", "out_root": "s3://bucket/there"}}
        folder = sandbox.scaffold_component(PersonaRankComponent, defs_yaml_contents=contents)
        os.rename(elsewhere / "configs", folder / "mine")
        with sandbox.load_component_and_build_defs(folder) as (component, _):
            assert isinstance(component, PersonaRankComponent)
            assert component.mount.folder == (folder / "mine").resolve()
            assert component.out_root == "s3://bucket/there"


def test_two_components_share_no_name_and_stand_beside_this_repositorys_own_graph(elsewhere: Path) -> None:
    configs = str(elsewhere / "configs")
    graphs = [own, *(loaded(config_dir=configs, key_prefix=[team]) for team in ("search", "mail"))]
    found = [names(one) for one in graphs]
    for kind in found[0]:
        assert not found[1][kind] & found[2][kind], kind
        assert not found[0][kind] & found[1][kind], kind
    assert [len(one["checks"]) for one in found] == [len(found[0]["checks"])] * 3
    merged = dg.Definitions.merge(*graphs)
    assert len(list(merged.resolve_all_asset_specs())) == 3 * len(found[0]["keys"])
    merged.get_repository_def().validate_loadable()


def test_an_attribute_that_is_none_is_named(elsewhere: Path) -> None:
    with pytest.raises(Exception, match="Error while loading component") as failure:
        loaded(config_dir=str(elsewhere / "configs"), colour="red")
    assert "attributes.colour" in str(failure.value.__cause__)


def test_a_folder_without_datasets_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected at least one dataset folder"):
        build_definitions(tmp_path)


def test_a_raw_file_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"raw_assets: unknown key loo_histories; did you mean loo_history"):
        build_definitions(ROOT / "configs", raw_assets={"loo_histories": ["warehouse", "histories"]})


def test_every_asset_links_to_its_function() -> None:
    spec = next(one for one in own.resolve_all_asset_specs() if one.key == dg.AssetKey("histories"))
    (reference,) = spec.metadata["dagster/code_references"].code_references
    lines = Path(reference.file_path).read_text().splitlines()
    assert any("def histories(" in line for line in lines[reference.line_number - 1 :][:20])


def test_dg_says_what_it_is() -> None:
    assert "personas" in (PersonaRankComponent.get_spec().description or "")
    schema = PersonaRankComponent.get_model_cls().model_json_schema()["properties"]
    assert all("description" in one for one in schema.values())
    assert {*schema} >= {"config_dir", "out_root", "key_prefix", "group_name", "owners", "tags", "gpu", "pool"}


def test_what_is_public_is_listed_and_loaded_when_it_is_asked_for() -> None:
    assert dir(personarank_dagster) == sorted(personarank_dagster.__all__)
    for name in personarank_dagster.__all__:
        assert getattr(personarank_dagster, name)
