"""Texts of reviews and personas stay out of Dagster's storage: events, metadata, checks, logs."""

import gzip
import json
from typing import Any

import pytest

from tests.killable import TinyWorkspace, edit

SECRET = "zyxqsecret"
NOT_TEXTS = {"user_id", "item_id", "parent_asin", "target_item_id", "selected_persona_id", "ID", "unique_persona_id"}
# Names of personas stand in the examples of reranked lists.
SHOWN = {"Name", "selected_persona_name"}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> TinyWorkspace:
    """A dataset in which every text begins with the secret word."""
    workspace = TinyWorkspace(tmp_path_factory.mktemp("privacy"))
    for path in (workspace.folder / "data/1/amazon").glob("*.jsonl.gz"):
        lines = gzip.decompress(path.read_bytes()).splitlines()
        path.write_bytes(gzip.compress("\n".join(json.dumps(marked(json.loads(line))) for line in lines).encode()))
    return workspace


def marked(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: marked(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [marked(inner, key) for inner in value]
    return f"{SECRET} {value}" if isinstance(value, str) and key not in NOT_TEXTS | SHOWN else value


def stored(workspace: TinyWorkspace, word: str) -> list[str]:
    """Files of the Dagster instance, its data bases of runs and events above all, that hold the word."""
    files = [path for path in (workspace.folder / ".dagster").rglob("*") if path.is_file()]
    return [path.name for path in files if word.encode() in path.read_bytes()]


def break_first_line(workspace: TinyWorkspace, **fields: Any) -> None:
    path = workspace.folder / "data/1/amazon/3.5_history_loo.jsonl.gz"
    first, *others = gzip.decompress(path.read_bytes()).decode().splitlines()
    row = json.loads(first)
    row["reviews"][0] |= fields
    path.write_bytes(gzip.compress("\n".join([json.dumps(row), *others]).encode()))


def test_a_whole_run_leaves_no_text_in_events(workspace: TinyWorkspace) -> None:
    ended = workspace.call("run")
    assert ended.code == 0, ended.output
    table = next((workspace.folder / "outputs/amazon/versions/histories").rglob("*.parquet"))
    assert SECRET.encode() in table.read_bytes()
    assert stored(workspace, "interactions_have_aspects")
    assert stored(workspace, "personarank explain --partition amazon --user")
    assert stored(workspace, SECRET) == []


def test_an_error_shows_the_value_that_breaks_the_rule_and_none_of_the_texts_beside_it(
    workspace: TinyWorkspace,
) -> None:
    break_first_line(workspace, rating="fivestars")
    failed = workspace.call("run", "--select", "histories")
    assert failed.code == 1
    assert "fivestars" in failed.output
    assert SECRET not in failed.output
    edit(workspace.folder / "configs/amazon/data.yaml", {"schema: amazon": "schema: amazon\non_bad_row: quarantine"})
    edit(workspace.folder / "configs/amazon/data.yaml", {"schema: amazon": "schema: amazon\nmax_bad_share: 0.5"})
    assert workspace.call("run", "--select", "histories").code == 0
    assert SECRET in (workspace.folder / "outputs/amazon/quarantine/histories.jsonl").read_text()
    assert stored(workspace, "fivestars")
    assert stored(workspace, SECRET) == []


def test_of_a_text_of_the_wrong_kind_an_error_shows_at_most_sixty_characters(workspace: TinyWorkspace) -> None:
    break_first_line(workspace, rating=5.0, summary=[f"{'x' * 60} {SECRET}"])
    edit(workspace.folder / "configs/amazon/data.yaml", {"on_bad_row: quarantine": "on_bad_row: fail"})
    failed = workspace.call("run", "--select", "histories")
    assert failed.code == 1
    assert "field reviews[0].summary: expected text, got" in failed.output
    assert SECRET not in failed.output
    assert stored(workspace, SECRET) == []
