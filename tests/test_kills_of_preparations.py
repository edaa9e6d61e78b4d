"""Whole runs from raw reviews that are killed at many moments: asked twice is what was in flight, tables are equal.

`make torture` kills 20 while they ask; the test suite 4.
"""

import json
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from personarank_dagster.defs.automation.runs import REPORT
from personarank_dagster.preparation.stand_in import StandIn
from personarank_dagster.sample.raw_reviews import write_raw_reviews
from tests.killable import NO_PICTURES, TinyWorkspace, content, sight
from tests.served_stand_in import address_of

KILLS = int(os.environ.get("PERSONARANK_REVIEW_KILLS", "2"))
# Most that are in flight at a kill.
AT_ONCE = 4
PUBLISHING = "versions/*_cache/amazon/.staging-*"
FILES = "raw_reviews: raw/reviews.jsonl.gz\nraw_items: raw/meta.jsonl.gz\n"
DATA = f"schema: amazon\n{FILES}out_root: ../../outputs/amazon\n"


class KilledPreparation:
    """A dataset of raw reviews whose runs are killed again and again, and what its server was asked."""

    def __init__(self, folder: Path, server: StandIn, address: str) -> None:
        self.workspace, self.server, self.log = TinyWorkspace(folder), server, folder / "asked.jsonl"
        configs = folder / "configs" / "amazon"
        (configs / "data.yaml").write_text(DATA)
        (configs / "prepare.yaml").write_text(f"base_url: {address}\nmodel: stand-in\nconcurrency: {AT_ONCE}\n")
        write_raw_reviews(configs / "raw", num_users=8, seed=1)
        server.log = folder / "undisturbed.jsonl"
        assert self.run("--out-root", str(folder / "undisturbed")) == 0
        self.total, self.undisturbed = server.num_requests, self.content("undisturbed")
        server.log = self.log

    def content(self, out_root: str = "outputs") -> dict[str, tuple[str, ...]]:
        """Of all versions but the report's, which also shows those before."""
        current = self.workspace.current(out_root)
        return {asset: content(version) for asset, version in current.items() if asset != REPORT}

    def run(self, *options: str, moment: Callable[[], bool] | None = None) -> int:
        return self.workspace.call("run", *options, moment=moment, constants=NO_PICTURES).code

    def asked_again(self) -> int:
        """Requests that were sent before, in all runs but the undisturbed one."""
        lines = self.log.read_text().splitlines()
        asked = Counter(json.dumps(json.loads(line)["messages"]) for line in lines)
        return asked.total() - len(asked)

    def after_requests(self, count: int) -> Callable[[], bool]:
        """The moment when the server has been asked so often since now."""
        end = self.server.num_requests + count
        return lambda: self.server.num_requests >= end


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KilledPreparation]:
    server = StandIn(latency=0.02)
    with address_of(server) as address:
        yield KilledPreparation(tmp_path_factory.mktemp("prepared"), server, address)


def test_a_run_that_is_killed_again_and_again_asks_twice_only_what_was_in_flight(project: KilledPreparation) -> None:
    # A kill comes some requests late: half of them are enough for all kills.
    asked, outputs = project.total // (2 * KILLS + 2), project.workspace.folder / "outputs" / "amazon"
    codes = [project.run(moment=project.after_requests(asked)) for _ in range(KILLS)]
    codes += [project.run(moment=sight(outputs, pattern)) for pattern in ("staging/*/checkpoint-*", PUBLISHING)]
    assert codes == [-signal.SIGKILL] * (KILLS + 2)
    assert project.run() == 0
    assert project.server.num_requests - project.total >= project.total
    assert project.asked_again() <= AT_ONCE * KILLS
    assert project.content() == project.undisturbed
