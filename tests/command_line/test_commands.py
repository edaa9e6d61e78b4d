"""`personarank` as a user types it: real processes, two generated datasets, of which `films` has the real encoder."""

import gzip
import json
import re
import signal
import subprocess

import pytest

from tests.killable import sight, tiny_model
from tests.workspace import Workspace


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = Workspace(tmp_path_factory.mktemp("workspace"))
    workspace.edit("amazon/train.yaml", "bundled:all-MiniLM-L6-v2", tiny_model())
    workspace.edit("amazon/train.yaml", "max_len: 256", "max_len: 32")
    return workspace


@pytest.fixture(scope="module")
def first_run(workspace: Workspace) -> subprocess.CompletedProcess[str]:
    return workspace.call("run", "--partition", "all")


def test_a_run_materialises_every_dataset_and_shows_the_tables(
    workspace: Workspace, first_run: subprocess.CompletedProcess[str]
) -> None:
    assert first_run.returncode == 0, first_run.stderr
    for name in ("amazon", "films"):
        users = workspace.metrics(name)["users"]
        assert f"{name} · {users} users" in first_run.stdout
        assert str(workspace.folder / "outputs" / name / "rerank" / "reranked.jsonl") in first_run.stdout
    reranked = workspace.metrics("films")["reranked"]["NDCG@10"]
    assert re.search(rf"NDCG@10 .*{reranked:.4f}", first_run.stdout)


def test_a_run_in_a_pipe_has_a_line_for_each_asset_and_a_verdict_with_its_interval(
    first_run: subprocess.CompletedProcess[str],
) -> None:
    begun = re.findall(r"^films: (\d+)/10 (\w+), after \d+ s$", first_run.stdout, re.MULTILINE)
    assert [number for number, _ in begun] == [str(number) for number in range(1, 11)]
    assert ("6", "trained_encoder") in begun
    assert re.search(r"NDCG@10 [+-][\d.]+ % \[\S+, \S+\]: an? \w+ that chance|no gain that", first_run.stdout)


def test_an_explanation_without_a_user_is_of_one_who_moved_up_and_one_who_moved_down(
    workspace: Workspace, first_run: subprocess.CompletedProcess[str]
) -> None:
    told = workspace.call("explain", "--partition", "films", "--top", "1").stdout
    ways = re.findall(r"the held-out \S+ moved (up|down) from", told)
    assert ways in (["up"], ["up", "down"])
    assert "keep their order" not in told
    several = json.loads(workspace.call("explain", "--partition", "films", "--json").stdout)
    assert [len(one["places"]) for one in several] == [10] * len(ways)


def test_the_outputs_have_the_shape_of_the_contract(
    workspace: Workspace, first_run: subprocess.CompletedProcess[str]
) -> None:
    lines = (workspace.folder / "outputs/films/rerank/reranked.jsonl").read_text().splitlines()
    keys = {"item_id", "score", "candidate_score", "persona_score", "unique_persona_id"}
    keys |= {"candidate_rank", "interactions"}
    for found in map(json.loads, lines):
        assert found.keys() == {"user_id", "alpha", "results"}
        assert all(result.keys() == keys for result in found["results"])
        scores = [result["score"] for result in found["results"]]
        assert scores == sorted(scores, reverse=True)
    metrics = workspace.metrics("films")
    names = {f"{metric}@{k}" for metric in ("HIT", "MRR", "NDCG") for k in (5, 10, 20)}
    assert metrics["candidate"].keys() == metrics["reranked"].keys() == metrics["lift"].keys() == names
    assert metrics["scenarios"].keys() == {"warm users", "cold users", "head items", "tail items"}
    assert {"trained_encoder", "interaction_cache", "persona_cache"} <= metrics["fingerprints"].keys()


def test_the_trained_encoder_loads_in_sentence_transformers_and_fits_the_cache(
    workspace: Workspace, first_run: subprocess.CompletedProcess[str]
) -> None:
    import numpy as np
    from sentence_transformers import SentenceTransformer

    from personarank_dagster.configuration.dataset import load_dataset
    from personarank_dagster.defs.graph import output_format
    from personarank_dagster.storage.versions import VersionStore

    config = load_dataset(workspace.folder / "configs", "films")
    base = config.data.out_root / "versions"
    personas, cache = (
        output_format(asset, "yelp").read(VersionStore(base, asset, "films").current().directory)
        for asset in ("personas", "persona_cache")
    )
    some = personas.sort("item_id", maintain_order=True).head(5)
    model = SentenceTransformer(str(workspace.folder / "outputs/films/train"), device="cpu")
    vectors = model.encode_document(config.template.persona_texts(some).to_list())
    assert cache.index["unique_persona_id"].head(5).to_list() == some["unique_persona_id"].to_list()
    assert np.sum(vectors * cache.vectors[cache.vector_rows[:5]].astype(np.float32), axis=1).min() > 0.999


def test_a_second_run_does_nothing_and_shows_the_same_metrics(
    workspace: Workspace, first_run: subprocess.CompletedProcess[str]
) -> None:
    before = workspace.metrics("amazon")
    again = workspace.call("run")
    assert again.returncode == 0
    assert "amazon: up to date, nothing to do" in again.stdout
    assert workspace.metrics("amazon") == before
    assert again.stdout[again.stdout.index("amazon ·") :] == first_run.stdout[first_run.stdout.index("amazon ·") :]


def test_a_forced_training_gives_the_same_encoder_and_metrics(
    workspace: Workspace, first_run: subprocess.CompletedProcess[str]
) -> None:
    before = workspace.metrics("amazon")
    forced = workspace.call("run", "--partition", "amazon", "--select", "trained_encoder+", "--force")
    assert forced.returncode == 0, forced.stderr
    assert workspace.metrics("amazon") == before


def test_after_a_kill_in_training_the_last_good_encoder_stays_and_the_next_run_goes_on(
    workspace: Workspace, first_run: subprocess.CompletedProcess[str]
) -> None:
    current = (workspace.folder / "outputs/amazon/train").resolve()
    with (
        workspace.edited("amazon/train.yaml", "max_steps: 30", "max_steps: 1000000"),
        workspace.edited("amazon/train.yaml", "epochs: 10", "epochs: 1000000"),
    ):
        trained = sight(workspace.folder, "outputs/amazon/staging/trained_encoder-*/**/best.safetensors")
        assert workspace.call("run", "--partition", "amazon", moment=trained).returncode == -signal.SIGKILL
    assert (workspace.folder / "outputs/amazon/train").resolve() == current
    again = workspace.call("run", "--partition", "amazon", "--select", "trained_encoder+", "--force")
    assert again.returncode == 0, again.stderr
    assert "was killed; it counts as failed now" in again.stdout


def test_caches_by_different_encoders_are_not_ranked_with(
    workspace: Workspace, first_run: subprocess.CompletedProcess[str]
) -> None:
    before = workspace.metrics("amazon")
    partial = "trained_encoder,persona_cache,reranked_candidates,rerank_metrics"
    with workspace.edited("amazon/train.yaml", "seed: 13", "seed: 14"):
        mixed = workspace.call("run", "--partition", "amazon", "--select", partial)
    assert mixed.returncode == 1
    assert "both caches must be by one encoder" in mixed.stderr
    assert workspace.metrics("amazon") == before
    assert workspace.call("run", "--partition", "amazon").returncode == 0
    assert workspace.metrics("amazon")["reranked"] == before["reranked"]


def test_a_changed_setting_reruns_only_what_depends_on_it(
    workspace: Workspace, first_run: subprocess.CompletedProcess[str]
) -> None:
    with workspace.edited("films/rerank.yaml", "alpha: 0.5", "alpha: 0.0"):
        changed = workspace.call("run", "--partition", "films")
        metrics = workspace.metrics("films")
    assert "films: reranked_candidates (its settings changed: alpha)" in changed.stdout
    assert "films: rerank_metrics (after reranked_candidates)" in changed.stdout
    assert "trained_encoder" not in changed.stdout
    assert metrics["reranked"] == metrics["candidate"]


def test_a_changed_file_reruns_its_asset_and_a_broken_one_keeps_the_last_good_outputs(
    workspace: Workspace, first_run: subprocess.CompletedProcess[str]
) -> None:
    broken = workspace.folder / "data" / "broken.jsonl"
    broken.write_text('{"user_id": "u", "item_id": "i"}\n{"user_id": "u"}\n')
    before = workspace.metrics("amazon")
    with workspace.edited("amazon/data.yaml", "../../data/amazon/gt.jsonl.gz", "../../data/broken.jsonl"):
        failed = workspace.call("run", "--partition", "amazon")
    assert failed.returncode == 1
    assert "ground_truth, histories, selected_personas (raw/gt changed)" in failed.stdout
    assert "broken.jsonl line 2, field item_id: is missing" in failed.stderr
    assert workspace.metrics("amazon") == before


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("train.yaml", "gamma: 0.65", "gama: 0.65", r"train\.yaml: unknown key gama; did you mean gamma\?"),
        ("data.yaml", "/gt.jsonl.gz", "/gone.jsonl.gz", r"gone\.jsonl\.gz: expected .*, got no such file"),
        (
            "data.yaml",
            "/gt.jsonl.gz",
            "/2_summary.jsonl.gz",
            r"summary\.jsonl\.gz: every line, field user_id: is missing, got .* in line 1; is it the right",
        ),
        (
            "data.yaml",
            "../outputs/amazon",
            "../dagster.yaml/x",
            r"dagster\.yaml.*: cannot be written: Not a directory",
        ),
    ],
    ids=["wrong key", "missing file", "missing column", "unwritable out_root"],
)
def test_a_mistake_is_answered_with_its_place_and_no_traceback(
    workspace: Workspace, file: str, old: str, new: str, message: str
) -> None:
    with workspace.edited(f"amazon/{file}", old, new):
        result = workspace.call("run", "--partition", "amazon", "--select", "ground_truth")
    assert result.returncode == 1
    assert len(re.findall(message, result.stderr)) == 1, result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert "Traceback" not in result.stderr + result.stdout


def test_two_datasets_with_one_out_root_are_refused_by_name(workspace: Workspace) -> None:
    with workspace.edited("films/data.yaml", "outputs/films", "outputs/amazon"):
        result = workspace.call("run", "--partition", "amazon")
    assert (result.returncode, result.stdout) == (1, "")
    assert re.fullmatch(r"Error: \S+amazon/data\.yaml: out_root .*films/data\.yaml has too; .*\n", result.stderr)


def test_keys_of_the_public_scripts_and_a_broken_schedule_are_warnings_printed_once(workspace: Workspace) -> None:
    with (
        workspace.edited("amazon/train.yaml", "seed: 13", "seed: 13\nnum_workers: 0\nqlora: 0"),
        workspace.edited("amazon/schedule.yaml", "timezone: UTC", "timezone: Mars"),
    ):
        result = workspace.call("run", "--partition", "amazon", "--select", "ground_truth", "--out-root", "fourth")
    assert result.returncode == 0
    keys, schedule = result.stderr.splitlines()
    assert re.match(
        r"warning: \S+train\.yaml: passed over, keys of the public scripts: num_workers \(.*qlora \(", keys
    )
    assert re.match(r"warning: \S+schedule\.yaml: timezone must be .*, got 'Mars'$", schedule)


def test_quarantine_goes_on_without_the_bad_line_and_keeps_it(workspace: Workspace) -> None:
    source = gzip.decompress((workspace.folder / "data/amazon/gt.jsonl.gz").read_bytes()).decode()
    (workspace.folder / "data" / "dirty.jsonl").write_text(source + '{"user_id": 7, "item_id": "i"}\n')
    with (
        workspace.edited("amazon/data.yaml", "../../data/amazon/gt.jsonl.gz", "../../data/dirty.jsonl"),
        workspace.edited("amazon/data.yaml", "schema: amazon", "schema: amazon\non_bad_row: quarantine"),
        workspace.edited("amazon/data.yaml", "schema: amazon", "schema: amazon\nmax_bad_share: 0.1"),
    ):
        result = workspace.call("run", "--partition", "amazon", "--select", "ground_truth", "--out-root", "other")
    assert result.returncode == 0, result.stderr
    (line,) = (workspace.folder / "other/amazon/quarantine/ground_truth.jsonl").read_text().splitlines()
    assert json.loads(line)["reason"] == "field user_id: expected text, got 7"
    assert json.loads(line)["content"] == '{"user_id": 7, "item_id": "i"}'


def test_validate_prints_the_checks_and_its_exit_code_says_how_bad_it_is(workspace: Workspace) -> None:
    shown = workspace.call("validate", "--partition", "films")
    assert shown.returncode == 0, shown.stderr
    assert re.search(r"pass +histories_are_chronological +0 of [\d,]+", shown.stdout)
    with gzip.open(workspace.folder / "data" / "yelp" / "gt.jsonl.gz") as file:
        held_out = json.loads(file.readline())
    review = {"user_id": held_out["user_id"], "extracted_aspects": {}}
    aspects = {"item_id": held_out["item_id"], "aspects": [review]}
    (workspace.folder / "data" / "held_out.jsonl").write_text(json.dumps(aspects))
    low = "schema: yelp\nmin_coverage: 1.0"
    given, other = "../../data/yelp/2.5_grouped.jsonl.gz", "../../data/held_out.jsonl"
    with workspace.edited("films/data.yaml", "schema: yelp", low), workspace.edited("films/data.yaml", given, other):
        strict = workspace.call("validate", "--partition", "films", "--json", "--strict")
    assert strict.returncode == 2
    results = {one["check"]: one for one in json.loads(strict.stdout)["films"]}
    assert results["candidates_have_personas"]["result"] == "warn"
    assert results["candidates_have_personas"]["bad"] > 0
    assert results["aspects_hold_no_ground_truth"]["result"] == "warn"
    assert results["aspects_hold_no_ground_truth"]["bad"] == 1
    broken = workspace.folder / "data" / "loo.jsonl"
    review = {"item_id": "i", "rating": 0.0, "timestamp": 1_600_000_000}
    broken.write_text(json.dumps({"user_id": "u", "reviews": [review]}))
    with workspace.edited("films/data.yaml", "../../data/yelp/3.5_history_loo.jsonl.gz", "../../data/loo.jsonl"):
        failed = workspace.call("validate", "--partition", "films", "--out-root", "third")
    assert failed.returncode == 1
    assert re.search(r"fail +ratings_lie_within_1_and_5 +1 of 1", failed.stdout)


def test_an_unknown_partition_is_answered_with_the_known_ones(workspace: Workspace) -> None:
    result = workspace.call("run", "--partition", "books")
    assert result.returncode == 2
    assert result.stderr.strip() == "Error: unknown partition books; the datasets are amazon, films"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            "run --select rerank_metric",
            "--select rerank_metric: unknown asset; did you mean rerank_metrics? the assets are",
        ),
        ("run --select personas,caches+", "unknown asset caches; the assets are"),
        ("run --partition film", "unknown partition film; did you mean films? the datasets are"),
        ("versions historys", "unknown asset historys; did you mean histories? the assets are"),
        ("graph --out gone/graph.svg", "the folder gone must be there, and is not"),
        ("export-caches film --out caches", "unknown dataset 'film'; did you mean films?"),
        ("run --alpha 1", "No such option"),
    ],
)
def test_a_name_that_was_mistyped_exits_with_2_as_a_mistyped_option_does(
    workspace: Workspace, arguments: str, says: str
) -> None:
    result = workspace.call(*arguments.split())
    assert result.returncode == 2
    assert says in result.stderr
    assert "Traceback" not in result.stderr


def test_the_version_is_printed(workspace: Workspace) -> None:
    assert re.fullmatch(r"personarank, version \d+\.\d+\.\d+\n", workspace.call("--version").stdout)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ("compare films one two", 2, "rerank_metrics (films): unknown version one; "),
        ("serve --host 0.0.0.0", 2, "--host 0.0.0.0: needs --token-file"),
        ("serve --token-file gone", 2, "--token-file gone: cannot be read: No such file"),
        ("sample-data --out dagster.yaml/x", 1, "dagster.yaml/x/amazon: cannot be used: Not a directory"),
        ("prepare --partition films --dry-run", 1, "raw_reviews is not set, so there is nothing to prepare"),
    ],
)
def test_what_cannot_be_done_is_one_line(workspace: Workspace, arguments: str, code: int, says: str) -> None:
    result = workspace.call(*arguments.split())
    assert (result.returncode, result.stderr.count("\n")) == (code, 1), result.stderr
    assert says in result.stderr
