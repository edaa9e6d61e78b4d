"""The heads of the public files with a configuration as the public scripts have it, where they are at hand."""

import gzip
import re
import shutil
from pathlib import Path

import pytest

from tests.configuration.test_public_scripts import FILES
from tests.forked import ROOT, personarank

PUBLIC = ROOT.parent / "shared" / "public_sample"
RAW_FILES = {
    "selected": "4_selected_personas",
    "persona": "3.5_persona_with_summary",
    "loo_history": "3.5_history_loo",
    "item_summary": "2_summary",
    "aspects": "2.5_grouped",
    "candidates": "candidate",
    "gt": "gt",
}

pytestmark = pytest.mark.skipif(not PUBLIC.is_dir(), reason=f"the heads of the public files are not in {PUBLIC}")


@pytest.fixture(params=["amazon", "yelp"])
def name(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A dataset in a project of its own, its files laid out as the public scripts lay them out."""
    shutil.copy(ROOT / "dagster.yaml", tmp_path)
    (tmp_path / "configs" / request.param).mkdir(parents=True)
    (tmp_path / "data").mkdir()
    for stem in RAW_FILES.values():
        content = gzip.decompress((PUBLIC / request.param / f"{stem}.jsonl.gz").read_bytes())
        (tmp_path / "data" / f"{stem}.jsonl").write_bytes(content)
    paths = "".join(f"{key}: ../../data/{stem}.jsonl\n" for key, stem in RAW_FILES.items())
    for file, text in {**FILES, "data.yaml": f"data_root: ../data\n{paths}out_root: ./outputs"}.items():
        (tmp_path / "configs" / request.param / file).write_text(text)
    return request.param


def test_they_run_until_what_they_lack(tmp_path: Path, name: str) -> None:
    validated = personarank(["validate"], folder=tmp_path)
    assert validated.returncode == 0
    assert re.search(r"warn +selected_users_have_histories", validated.stdout)
    files = [line.partition(":")[2].strip().partition(":")[0] for line in validated.stderr.splitlines()]
    assert files == [f"{tmp_path}/configs/{name}/{file}.yaml" for file in ("data", "train")]
    failed = personarank(["run"], folder=tmp_path)
    assert failed.returncode == 1
    assert "trained_encoder failed: training pairs: no target can be trained on, of 50: " in failed.stderr
