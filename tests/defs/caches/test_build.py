"""Both caches, by real runs of the graph with a tiny encoder: what is encoded again, and what comes out."""

import gzip
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest

from personarank_dagster.core.encoders import BaseModel
from personarank_dagster.core.profiles import unit_rows
from personarank_dagster.definitions import defs, project
from personarank_dagster.defs.automation.runs import Outcome, execute, plan_run
from personarank_dagster.defs.automation.upkeep import retire
from personarank_dagster.defs.caches.checks import CacheSubject, matches_its_encoder
from personarank_dagster.defs.caches.export import export_caches
from personarank_dagster.defs.graph import all_checks
from personarank_dagster.defs.platform.kept_vectors import untrained_tables
from personarank_dagster.defs.platform.lineage.snapshots import Sight, take_snapshot
from personarank_dagster.defs.platform.resources import GpuResource
from personarank_dagster.defs.training.checks import encoder_checks
from personarank_dagster.ranking.ranker import VectorTable
from personarank_dagster.sample.files import write_sample_files
from personarank_dagster.storage.encoder_directory import EncoderDirectory
from personarank_dagster.storage.versions import Version
from personarank_dagster.vectors.embeddings import made_with
from tests.tiny_models import write_tiny_model

ROOT = Path(__file__).parents[3]
CACHES = ("interaction_cache", "persona_cache")
# Drawing takes longer than encoding here, and nobody looks.
NO_PICTURES = ("personarank_dagster.defs.platform.figures.COLUMN", -1)
ALL_CACHES = "+interaction_cache,+persona_cache"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of 12 users with an encoder that knows its words, and the outputs of one run."""
    folder = tmp_path_factory.mktemp("source")
    write_sample_files(folder / "data", num_users=12, seed=1)
    lines = [gzip.decompress(path.read_bytes()).decode() for path in (folder / "data/amazon").glob("*.gz")]
    words = sorted(set(re.findall(r"\w+|[^\w\s]", " ".join(lines).lower())))
    write_tiny_model(folder, words, max_len=300)
    shutil.copytree(ROOT / "configs/amazon", folder / "configs/amazon")
    edit(folder, "data.yaml", "../../data/sample/", "../../data/")
    edit(folder, "data.yaml", "../../outputs/amazon", "../../out/amazon")
    edit(folder, "train.yaml", "bundled:all-MiniLM-L6-v2", str(folder / "model"))
    edit(folder, "train.yaml", "batch_size: 128", "batch_size: 8")
    edit(folder, "train.yaml", "max_steps: 400", "max_steps: 5")
    with pytest.MonkeyPatch.context() as patch, dg.instance_for_test() as instance:
        patch.setenv("PERSONARANK_CONFIG_DIR", str(folder / "configs"))
        patch.setattr(*NO_PICTURES)
        assert Workspace(folder, instance).run("+reranked_candidates").failures == {}
    return folder


class Workspace:
    """A copy of the source, whose runs go to one Dagster instance."""

    def __init__(self, folder: Path, instance: dg.DagsterInstance) -> None:
        self.folder, self.instance = folder, instance

    def run(self, select: str, *, force: bool = False) -> Outcome:
        return execute(defs, plan_run(defs, project, "amazon", select=select, force=force), self.instance)

    def numbers(self, asset: str) -> dict[str, Any]:
        return current(asset).manifest.details

    def files(self) -> dict[str, bytes]:
        """Content of all files of both caches, without the manifests."""
        paths = [path for asset in CACHES for path in current(asset).directory.glob("*.[np]*")]
        return {f"{path.parts[-4]}/{path.name}": path.read_bytes() for path in paths}

    def checks(self, *assets: str) -> dict[str, bool]:
        """Result of the last evaluation of each check of the assets."""
        found = {}
        for key in (
            key for check in all_checks(project.mount) for key in check.check_keys if key.asset_key.path[-1] in assets
        ):
            record = self.instance.event_log_storage.get_asset_check_execution_history(key, limit=1)[0]
            found[key.name] = record.event.dagster_event.asset_check_evaluation_data.passed  # type: ignore[union-attr]
        return found

    def edit(self, file: str, old: str, new: str) -> None:
        edit(self.folder, file, old, new)


@pytest.fixture
def workspace(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    for name in ("data", "configs", "out"):
        shutil.copytree(source / name, tmp_path / name, symlinks=True)
    monkeypatch.setenv("PERSONARANK_CONFIG_DIR", str(tmp_path / "configs"))
    monkeypatch.delenv("PERSONARANK_OUT_ROOT", raising=False)
    monkeypatch.setattr(*NO_PICTURES)
    with dg.instance_for_test() as instance:
        yield Workspace(tmp_path, instance)


def current(asset: str) -> Version:
    return project.versions(asset, "amazon").current()


def read(asset: str) -> Any:
    return project.outputs("amazon").format(asset).read(current(asset).directory)


def untrained() -> list[VectorTable] | None:
    return untrained_tables(project.outputs("amazon"), [current(asset) for asset in CACHES])


def edit(folder: Path, file: str, old: str, new: str) -> None:
    path = folder / "configs/amazon" / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def rewrite_personas(folder: Path) -> None:
    """Change one item's first persona, and remove another item's last."""
    path = folder / "data/amazon/3.5_persona_with_summary.jsonl.gz"
    items = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    items[0]["personas"][0]["Description"] += " guitar"
    items[1]["personas"].pop()
    path.write_bytes(gzip.compress("\n".join(json.dumps(item) for item in items).encode()))


def test_a_refresh_encodes_what_is_new_and_equals_a_rebuild_to_the_last_bit(workspace: Workspace) -> None:
    before, known = workspace.numbers("persona_cache"), num_kept()
    rewrite_personas(workspace.folder)
    assert workspace.run(ALL_CACHES).failures == {}
    refreshed, numbers = workspace.files(), workspace.numbers("persona_cache")
    assert (numbers["texts"], num_kept()) == (before["texts"] - 1, known + 1)
    shutil.rmtree(workspace.folder / "out")
    assert workspace.run(ALL_CACHES).failures == {}
    assert workspace.files() == refreshed


def test_nothing_is_loaded_or_encoded_after_the_head_was_trained_again(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model is loaded by the two checks that encode a sample again, and by nothing else."""
    from personarank_dagster.encoding import encoder

    known, before, loads = num_kept(), made_with(current("persona_cache")).encoder, []

    def load(base: BaseModel, device: str) -> Any:
        loads.append(base)
        return loading(base, device)

    # Validation chooses among the steps, and may choose the same one again; without it the last one counts.
    workspace.edit("train.yaml", "validation_share: 0.1", "validation_share: 0")
    workspace.edit("train.yaml", "max_steps: 5", "max_steps: 3")
    assert workspace.run("trained_encoder").failures == {}
    loading = encoder.load_base
    monkeypatch.setattr(encoder, "load_base", load)
    assert workspace.run("interaction_cache,persona_cache").failures == {}
    assert made_with(current("persona_cache")).encoder != before
    assert (num_kept(), len(loads)) == (known, 2)
    assert [workspace.numbers(cache)["encoded"] for cache in CACHES] == [0, 0]


def test_a_cache_says_what_it_was_made_with(workspace: Workspace) -> None:
    found = made_with(current("persona_cache"))
    encoder = read("trained_encoder").info
    assert (found.encoder, found.dimension, found.max_len) == (encoder.fingerprint, 16, 256)
    assert (found.mode, found.fields, found.template_version) == ("aspects", "N,D,I,R", "1")
    assert found.truncated_share == 0
    assert found.vectors.startswith(encoder.base_fingerprint)


def test_all_checks_of_the_caches_pass_and_one_sees_a_model_that_is_not_theirs(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert workspace.run("interaction_cache,persona_cache", force=True).failures == {}
    assert set(workspace.checks(*CACHES).values()) == {True}
    assert len(workspace.checks(*CACHES)) == 11
    monkeypatch.setattr(EncoderDirectory, "head", lambda self, side: -np.eye(16, dtype=np.float32))
    sight = Sight(project, take_snapshot(project, "amazon"), run_id="")
    assert not matches_its_encoder(CacheSubject(sight, GpuResource(), {}, "persona_cache")).passed


def test_all_checks_of_the_encoder_are_made_and_those_that_block_stop_the_caches(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert workspace.run("trained_encoder", force=True).failures == {}
    found = workspace.checks("trained_encoder")
    assert len(found) == 6
    assert all(found[check.name] for check in encoder_checks if check.blocking)
    caches = {asset: current(asset).name for asset in CACHES}
    monkeypatch.setattr("personarank_dagster.defs.training.checks.MAX_MEAN_COSINE", -1.0)
    stopped = workspace.run("trained_encoder+", force=True).failures
    assert stopped.keys() == {"trained_encoder"}
    assert "refused: encoder_does_not_collapse" in stopped["trained_encoder"]
    assert caches == {asset: current(asset).name for asset in CACHES}


def test_summary_mode_encodes_each_item_once(workspace: Workspace) -> None:
    workspace.edit("rerank.yaml", "mode: aspects", "mode: summary")
    assert workspace.run("+interaction_cache").failures == {}
    numbers, index = workspace.numbers("interaction_cache"), read("interaction_cache").index
    assert numbers["distinct_texts"] == index["item_id"].n_unique() < numbers["texts"] == index.height


def test_another_model_makes_both_caches_and_leaves_the_trained_one(workspace: Workspace) -> None:
    before, trained = untrained(), current("trained_encoder").name
    assert before is not None
    workspace.edit("rerank.yaml", "alpha:", f"model: {project.dataset('amazon').train.st_path}\nalpha:")
    assert workspace.run("trained_encoder,interaction_cache,persona_cache").failures == {}
    assert current("trained_encoder").name == trained
    for asset, table in zip(CACHES, before, strict=True):
        assert np.array_equal(read(asset).vectors, table.vectors)
        assert read(asset).index.equals(table.index)


def test_base_vectors_and_head_give_the_cache(workspace: Workspace) -> None:
    base = untrained()
    assert base is not None
    expected = unit_rows(base[1].vectors.astype(np.float32) @ read("trained_encoder").head("document").T)
    np.testing.assert_allclose(read("persona_cache").vectors, expected, atol=1e-3)


def test_an_export_is_read_back_as_the_same_caches(workspace: Workspace) -> None:
    ours, lists = [read(asset) for asset in CACHES], read("reranked_candidates")
    export_caches(project.outputs("amazon"), workspace.folder / "export")
    switch = f"use_external_caches: 1\next_interaction_cache: {workspace.folder}/export/user_item\n"
    workspace.edit(
        "rerank.yaml", "alpha:", f"{switch}ext_persona_cache: {workspace.folder}/export/item_persona\nalpha:"
    )
    assert workspace.run("interaction_cache,persona_cache,reranked_candidates").failures == {}
    for asset, table in zip(CACHES, ours, strict=True):
        theirs = read(asset)
        assert theirs.index.drop("vector_row").equals(table.index.drop("vector_row"))
        assert np.array_equal(theirs.vectors[theirs.vector_rows], table.vectors[table.vector_rows])
    assert read("reranked_candidates").equals(lists)


def test_vectors_of_encoders_that_no_version_is_by_are_retired(workspace: Workspace) -> None:
    (workspace.folder / "out/amazon/vectors/gone-fp32-packed1").mkdir()
    kept = made_with(current("persona_cache")).vectors
    assert [one.version for one in retire(project, keep=None, dry_run=False)] == ["gone-fp32-packed1"]
    assert [path.name for path in (workspace.folder / "out/amazon/vectors").iterdir()] == [kept]


def num_kept() -> int:
    """Number of texts whose vectors are kept."""
    return len(project.outputs("amazon").vectors(made_with(current("persona_cache")).vectors))
