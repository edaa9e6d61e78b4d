import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dagster._core.storage.defs_state.base import set_defs_state_storage

from tests.databases import keep_engines_and_migrations

# Bytes that the folders of a whole run of the tests take, and some more.
ROOM = 4 * 2**30
# Fixtures that start processes.
STARTING = {"project", "rivals", "server", "workspace"}
# One server for all tests of this folder.
UI = "tests/ui/"


def pytest_configure() -> None:
    """Keep all that is temporary in memory where that has room: runs wait longer for a disk than for all else.

    And what Dagster makes anew for each statement and each database.
    """
    memory = Path("/dev/shm")
    if "TMPDIR" not in os.environ and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > ROOM:
        os.environ["TMPDIR"] = tempfile.tempdir = str(memory)
    keep_engines_and_migrations()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that none is left for the end, when the other worker has nothing more to do.

    Before all others those that mostly wait: for a browser, and for a daemon.
    """
    long = {item.path for item in items if STARTING & {*getattr(item, "fixturenames", ())}}
    items.sort(key=lambda item: (not item.nodeid.startswith(UI), item.path not in long))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A worker takes whole files; those of the UI all go to one, which starts one server for them."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return UI if nodeid.startswith(UI) else super()._split_scope(nodeid)

    return Scheduling(config, log)


@pytest.fixture(autouse=True)
def _no_instance_of_an_earlier_test() -> Iterator[None]:
    """Dagster remembers the instance that was opened last, also when it is gone, if others were opened around it."""
    with set_defs_state_storage(None):
        yield
