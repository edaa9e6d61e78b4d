"""What a release must agree on."""

import re
import subprocess
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from personarank_dagster import __version__
from tests.workspace import ROOT


def pinned() -> set[str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return {re.split("[=;]", line)[0].strip() for line in lines if line and not line.startswith("#")}


def test_the_oldest_versions_that_are_tested_are_those_that_are_allowed() -> None:
    lines = (ROOT / "constraints-lowest.txt").read_text().splitlines()
    tested = {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    named = [
        *project["dependencies"],
        *(one for name in extras if name not in ("dev", "local-llm") for one in extras[name]),
    ]
    for one in map(Requirement, named):
        floor = next(part.version for part in one.specifier if part.operator in (">=", "=="))
        assert Version(tested[canonicalize_name(one.name)]) == Version(floor), one.name


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
