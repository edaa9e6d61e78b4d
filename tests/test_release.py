"""What a release must agree on."""

import re
import subprocess
from pathlib import Path

from personarank_dagster import __version__
from tests.workspace import ROOT


def pinned() -> set[str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return {re.split("[=;]", line)[0].strip() for line in lines if line and not line.startswith("#")}


def test_the_changelog_is_of_this_version() -> None:
    first = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert first
    assert first[1] == __version__


def test_a_tag_of_this_commit_is_the_version() -> None:
    told = subprocess.run(["git", "tag", "--points-at", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    assert {tag for tag in told.stdout.split() if tag[:1] == "v"} <= {f"v{__version__}"}


def test_every_pinned_package_has_its_licence_listed() -> None:
    rows = (ROOT / "docs" / "licences.md").read_text().splitlines()
    listed = {row.split("|")[1].strip(): row.split("|")[2].strip() for row in rows if row.startswith("| ")}
    assert pinned() <= listed.keys()
    assert all(listed.values())


def test_the_package_says_that_it_is_typed() -> None:
    assert (Path(ROOT) / "personarank_dagster" / "py.typed").exists()
