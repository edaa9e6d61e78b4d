import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import dagster as dg
import msgspec
import pytest
from dagster._core.storage.tags import HIDDEN_TAG_PREFIX

import personarank_dagster
from personarank_dagster.configuration.prepare_settings import PrepareConfig
from personarank_dagster.core.aspects import ASPECTS_BY_SCHEMA
from personarank_dagster.definitions import defs, project
from personarank_dagster.defs.graph import all_assets, output_format
from personarank_dagster.defs.platform.columns import DESCRIPTIONS
from personarank_dagster.defs.platform.declarations import RAW, asset_names, check_declarations, declared, pod_of_run
from personarank_dagster.defs.platform.lineage.run_tags import FINGERPRINT_TAG, PROCESS_TAG
from tests.workspace import ROOT

SPECS = {spec.key: spec for spec in defs.resolve_all_asset_specs()}
ASSETS = [SPECS[dg.AssetKey(name)] for name in asset_names()]
PREPARATION = {spec.key.path[-1] for spec in ASSETS if spec.group_name == "preparation"}
PREPARE = PrepareConfig(base_url="http://stand-in/v1", model="stand-in")
COLUMNS = {name: columns for name in asset_names() if (columns := output_format(name, "amazon").columns)}


def test_importing_the_definitions_loads_no_torch() -> None:
    code = (
        "import sys, personarank_dagster.definitions; heavy = "
        "('torch', 'sentence_transformers', 'transformers', 'tokenizers', 'matplotlib', 'numba');"
        "print([m for m in heavy if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_the_graph_is_the_one_that_is_declared() -> None:
    for name, spec in zip(asset_names(), ASSETS, strict=True):
        one = declared(name)
        expected = {dg.AssetKey(upstream) for upstream in one.upstream}
        expected |= {dg.AssetKey([RAW, key]) for key in (*one.raw, *one.optional_raw)}
        assert {dep.asset_key for dep in spec.deps} == expected, name
        assert spec.code_version == one.code_version


def test_the_ground_truth_counts_for_the_lists_only_where_it_chooses_the_blend() -> None:
    config = project.dataset("amazon")
    chosen = replace(config, rerank=msgspec.structs.replace(config.rerank, alpha="auto"))
    lists = declared("reranked_candidates")
    assert (lists.inputs_of(config), lists.inputs_of(chosen)) == ([], ["raw/gt"])
    raw = replace(config, data=msgspec.structs.replace(config.data, gt=None), prepare=PREPARE)
    raw_chosen = replace(chosen, data=raw.data, prepare=PREPARE)
    assert ("split" in lists.reads(raw), "split" in lists.reads(raw_chosen)) == (False, True)


def test_a_dataset_with_prepared_files_has_nothing_of_the_preparation() -> None:
    config = project.dataset("amazon")
    assert [name for name in PREPARATION if declared(name).is_made(config)] == []
    made = [declared(name) for name in asset_names(partitioned=True) if declared(name).is_made(config)]
    assert not {upstream for one in made for upstream in one.reads(config)} & PREPARATION


def test_an_asset_that_is_not_declared_is_an_error_at_import() -> None:
    assets = dict.fromkeys(asset_names())
    check_declarations(assets)
    with pytest.raises(ValueError, match="another"):
        check_declarations(assets | {"another": None})


@pytest.mark.parametrize("spec", ASSETS, ids=lambda spec: spec.key.path[-1])
def test_every_asset_says_what_it_is(spec: dg.AssetSpec) -> None:
    assert len(spec.description or "") > 60
    assert spec.group_name in {"preparation", "inputs", "training", "caches", "ranking", "handover"}
    assert spec.kinds


def test_every_table_shows_its_columns_and_every_asset_its_owners() -> None:
    for name, spec in zip(asset_names(), ASSETS, strict=True):
        assert list(spec.owners) == ["team:recommendation"]
        assert ("dagster/column_schema" in spec.metadata) == (name in COLUMNS)
    assert {*asset_names()} - COLUMNS.keys() == {"trained_encoder"}
    every = [output_format(name, schema).columns for name in asset_names() for schema in ASPECTS_BY_SCHEMA]
    assert DESCRIPTIONS.keys() == {name for columns in every for name in columns}


def test_the_page_of_the_histories_shows_the_columns_of_every_schema_and_whose_they_are() -> None:
    columns = {
        one.name: one.description for one in SPECS[dg.AssetKey("histories")].metadata["dagster/column_schema"].columns
    }
    assert columns["rating"] == "1 to 5."
    assert columns["quality_criteria"] == "What the user judges quality by."
    assert columns["quality_criteria_reason"] == "(amazon) What in the review speaks for quality_criteria."
    assert columns["visit_purpose"] == "(yelp) What the user came for."


def test_a_run_asks_for_a_gpu_on_kubernetes_and_is_not_tagged_elsewhere() -> None:
    assert pod_of_run({}) == {}
    assert pod_of_run({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}).keys() == {"dagster-k8s/config"}


def test_assets_that_compute_wait_for_the_pool_and_ask_kubernetes_for_a_gpu() -> None:
    computing = {"trained_encoder", "interaction_cache", "persona_cache"}
    for asset in (one for one in all_assets(project.mount) if isinstance(one, dg.AssetsDefinition)):
        expected = asset.key.path[-1] in computing
        assert (asset.op.pool == "gpu") is expected
        assert (asset.op.pool == "llm") is ("llm" in SPECS[asset.key].kinds)
        assert ("dagster-k8s/config" in asset.op.tags) is expected


def test_the_ui_hides_the_tags_of_runs_that_are_for_programs() -> None:
    assert all(tag.startswith(HIDDEN_TAG_PREFIX) for tag in (PROCESS_TAG, FINGERPRINT_TAG))


def test_the_instance_prints_from_info_on_and_keeps_every_event(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(ROOT / "dagster.yaml", tmp_path)
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        result = dg.materialize([dg.AssetsDefinition.from_op(_silent)], instance=instance)
        kept = {entry.dagster_event_type for entry in instance.all_logs(result.run_id)}
    assert "DEBUG" not in capfd.readouterr().err
    assert {dg.DagsterEventType.STEP_START, dg.DagsterEventType.STEP_SUCCESS} <= kept


@dg.op
def _silent() -> None:
    """Does nothing."""


def test_nothing_but_the_gpu_resource_looks_for_a_device() -> None:
    sources = {path: path.read_text() for path in Path(personarank_dagster.__file__).parent.rglob("*.py")}
    looking = {path.name for path, text in sources.items() if ".is_available()" in text or "device_count()" in text}
    assert looking == {"resources.py"}


def test_every_dataset_is_a_partition_of_every_asset_but_the_report() -> None:
    for spec in SPECS.values():
        keys = spec.partitions_def.get_partition_keys() if spec.partitions_def else None
        assert keys == (None if spec.key == dg.AssetKey("metrics_report") else ["amazon", "yelp"])
