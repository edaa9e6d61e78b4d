import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from personarank_dagster.configuration.dataset import load_dataset, load_prepare
from personarank_dagster.core.errors import ConfigError
from personarank_dagster.preparation import stage_runs
from personarank_dagster.preparation.estimates import estimate
from personarank_dagster.preparation.run import Source, prepare
from personarank_dagster.preparation.stand_in import StandIn
from tests.preparation.datasets import ITEMS, reviews
from tests.workspace import ROOT

SETTINGS = "base_url: http://stand-in/v1\nmodel: stand-in\n"


def dataset(tmp_path: Path, settings: str = SETTINGS, data: str = "", *, name: str = "raw") -> Path:
    """A folder of datasets with one, whose raw reviews are those of `datasets`."""
    folder = tmp_path / "configs" / name
    folder.mkdir(parents=True)
    for file in ("train.yaml", "rerank.yaml"):
        shutil.copy(ROOT / "configs" / "amazon" / file, folder)
    rows = [{**row, "timestamp": row["timestamp"].isoformat()} for row in reviews().iter_rows(named=True)]
    (folder / "reviews.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    items = ({"item_id": row[0], "title": row[1]} for row in ITEMS.rows())
    (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in items))
    files = "schema: amazon\nraw_reviews: reviews.jsonl\nraw_items: items.jsonl\nout_root: ../../out\n"
    (folder / "data.yaml").write_text(data or files)
    (folder / "prepare.yaml").write_text(settings)
    return folder.parent


def source(folder: Path, **limits: int) -> Source:
    return Source(load_dataset(folder, "raw"), **limits)


@contextmanager
def served(monkeypatch: pytest.MonkeyPatch, stand_in: StandIn) -> Iterator[StandIn]:
    client = httpx.AsyncClient

    def connected(**options: Any) -> httpx.AsyncClient:
        return client(**options, transport=httpx.ASGITransport(stand_in.app()))

    with monkeypatch.context() as patched:
        patched.setattr(stage_runs.httpx, "AsyncClient", connected)
        yield stand_in


def test_a_first_try_writes_files_to_be_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = source(dataset(tmp_path))
    with served(monkeypatch, StandIn()):
        report = prepare(prepared)
    assert all(path.is_file() for path in report.files)
    assert {stage.stage: stage.outcomes["answered"] for stage in report.stages} == {
        "item_summaries": 6,
        "review_aspects": 16,
        "item_personas": 6,
        "persona_selections": 4,
    }


def test_a_second_preparation_asks_nothing_and_leaves_the_files_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = source(dataset(tmp_path))
    with served(monkeypatch, StandIn()) as server:
        first = prepare(prepared)
        times, asked = [path.stat().st_mtime_ns for path in first.files], server.num_requests
        second = prepare(prepared)
    assert (server.num_requests, second.spent) == (asked, first.spent)
    assert [path.stat().st_mtime_ns for path in second.files] == times


def test_a_dry_run_asks_nothing_and_knows_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = dataset(tmp_path)
    before = estimate(source(folder))
    with served(monkeypatch, StandIn()):
        prepare(source(folder))
    after = estimate(source(folder))
    assert (
        [stage.questions for stage in before.stages] == [stage.questions for stage in after.stages] == [6, 16, 6, 4]
    )
    assert [stage.kept for stage in before.stages] == [0, 0, 0, 0]
    assert [stage.kept for stage in after.stages] == [6, 16, 6, 4]


def test_a_changed_prompt_is_asked_again_with_what_follows_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = dataset(tmp_path)
    with served(monkeypatch, StandIn()):
        prepare(source(folder))
    (tmp_path / "persona_selections.md").write_text("Choose a persona, with a reason.")
    (folder / "raw" / "prepare.yaml").write_text(f"{SETTINGS}prompts: ../..\n")
    stages = estimate(source(folder)).stages
    assert [(stage.questions - stage.kept) for stage in stages] == [0, 0, 0, 4]


def test_rows_without_an_answer_are_set_aside_with_what_the_model_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = source(dataset(tmp_path, f"{SETTINGS}max_bad_share: 1.0\nrepairs: 0\n"))
    with served(monkeypatch, StandIn(fault_share=0.4, faults=("no JSON",))):
        report = prepare(prepared)
    assert sum(stage.set_aside for stage in report.stages) > 0
    lines = (tmp_path / "out/quarantine/preparation_review_aspects.jsonl").read_text().splitlines()
    assert {json.loads(line)["outcome"] for line in lines} == {"invalid_json"}
    assert "Sure, here is" in lines[0]


def test_the_key_is_in_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "sk-very-secret")
    prepared = source(dataset(tmp_path, f"{SETTINGS}api_key_env: SECRET_KEY\n"))
    with served(monkeypatch, StandIn(fault_share=0.2, faults=("500", "no JSON"))):
        prepare(prepared)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if b"sk-very-secret" in path.read_bytes()]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("model: m", "base_url is missing; it must be an address"),
        ("base_url: ftp://x\nmodel: m", "base_url must be an address such as http"),
        ("base_url: http://key@x/v1\nmodel: m", "base_url must be an address"),
        (f"{SETTINGS}api_key_env: sk-123", "api_key_env must be the name of an environment variable"),
        (f"{SETTINGS}budget: 3", "unknown key budget"),
        (f"{SETTINGS}min_personas: 9", "min_personas must be at most max_personas, got 9 and 7"),
        (f"{SETTINGS}context_tokens: 2000", r"context_tokens must be at least max_tokens \+ 1500"),
        (f"{SETTINGS}as_of: 2020-13-45", "as_of must be a day"),
        (f"{SETTINGS}request: {{seed: 3}}", "request must not hold seed, which is made of the other keys"),
        (f"{SETTINGS}request: 1.1", "request must be keys and values that the server understands"),
    ],
)
def test_settings_that_break_a_rule_are_named(tmp_path: Path, settings: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"prepare.yaml: {message}"):
        load_prepare(dataset(tmp_path, settings), "raw")


def test_raw_reviews_and_raw_items_belong_together(tmp_path: Path) -> None:
    folder = dataset(tmp_path, data="schema: amazon\nraw_reviews: reviews.jsonl\nout_root: out\n")
    with pytest.raises(ConfigError, match=r"raw_items is missing; raw_reviews and raw_items belong together"):
        load_dataset(folder, "raw")


def test_files_that_are_made_of_raw_reviews_cannot_stand_beside_them(tmp_path: Path) -> None:
    files = "schema: amazon\nraw_reviews: reviews.jsonl\nraw_items: items.jsonl\nout_root: ../../out\n"
    folder = dataset(tmp_path, data=f"{files}gt: mine.jsonl\n")
    with pytest.raises(ConfigError, match=r"gt must be left out beside raw_reviews, of which it is made; remove one"):
        load_dataset(folder, "raw")


def test_a_second_stage_is_accounted_for_on_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = source(dataset(tmp_path))
    with served(monkeypatch, StandIn(fault_share=0.3, faults=("500",))):
        stages = {stage.stage: stage for stage in prepare(prepared).stages}
        again = prepare(prepared).stages[1]
    first = stages["review_aspects"].spent
    assert (first.calls - first.failed_attempts, first.failed_attempts > 0) == (16, True)
    assert (again.spent.calls, again.spent_in_all) == (0, first)
