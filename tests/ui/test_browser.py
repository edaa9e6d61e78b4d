"""The UI as a person uses it: real Chromium, real server, real daemon. Screenshots go to $PERSONARANK_SCREENSHOTS."""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ui.conftest import Server

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")

pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")]

FLAGS = (
    "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
RUNS = """query($since: Float!) { runsOrError(filter: {createdAfter: $since}) {
  ... on Runs { results { status tags { key value } assetCheckSelection { name } } } } }"""
BACKFILLS = """{ partitionBackfillsOrError { ... on PartitionBackfills {
  results { status partitionNames timestamp } } } }"""
SCHEDULE = """query($selector: ScheduleSelector!) { scheduleOrError(scheduleSelector: $selector) {
  ... on Schedule { scheduleState { status } } } }"""


class Browser:
    """A page, and the pictures that are taken of it."""

    def __init__(self, page: Any, server: Server, folder: Path) -> None:
        self.page, self.server, self.folder = page, server, folder
        self.opened = time.time()

    def open(self, path: str) -> Any:
        self.page.goto(self.server.url + path)
        return self.page

    def picture(self, name: str) -> None:
        self.page.wait_for_timeout(700)
        self.page.screenshot(path=self.folder / f"{name}.png")
        assert (self.folder / f"{name}.png").stat().st_size > 10_000

    def runs(self) -> list[dict[str, Any]]:
        """All runs since the page was opened: other tests run things on the same server."""
        found: list[dict[str, Any]] = self.server.graphql(RUNS, since=self.opened)["runsOrError"]["results"]
        return found

    def statuses(self, **tags: str) -> list[str]:
        """Statuses of all runs with these tags."""
        found = [(run["status"], {tag["key"]: tag["value"] for tag in run["tags"]}) for run in self.runs()]
        return [status for status, carried in found if tags.items() <= carried.items()]


@pytest.fixture(scope="module")
def browser(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    folder = Path(os.environ.get("PERSONARANK_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        page = chromium.new_page(viewport={"width": 1400, "height": 860})
        page.set_default_timeout(30_000)
        yield Browser(page, server, folder)
        chromium.close()


def asked_to_materialize(page: Any) -> Any:
    """The dialog that asks for partitions; before it, Dagster asks whether that may be, where upstream is missing."""
    page.get_by_role("button", name="Materialize").first.click()
    dialog = page.get_by_role("dialog")
    confirm = dialog.get_by_role("button", name="Confirm")
    confirm.or_(dialog.get_by_text("partition").first).first.wait_for()
    if confirm.is_visible():
        confirm.click()
        confirm.wait_for(state="hidden")
        page.wait_for_timeout(1000)
    return page.get_by_role("dialog")


def test_the_lineage_shows_the_graph(browser: Browser) -> None:
    page = browser.open("/asset-groups")
    page.get_by_text("training").first.wait_for()
    page.keyboard.press("Alt+KeyE")
    page.get_by_text("trained_encoder").first.wait_for()
    assert page.get_by_text("trained_encoder").first.is_visible()
    browser.picture("lineage")


def test_one_partition_of_one_asset_is_materialised_and_shows_checks_and_a_picture(browser: Browser) -> None:
    page = browser.open("/assets/candidates")
    dialog = asked_to_materialize(page)
    dialog.get_by_text("Select a partition").click()
    page.keyboard.type("amazon")
    page.get_by_text("Select all (1)").click()
    page.keyboard.press("Escape")
    dialog.get_by_role("button", name="Launch 1 run").click()
    browser.server.wait_for(lambda: browser.statuses(dataset="amazon") == ["SUCCESS"], seconds=90)
    browser.open("/assets/candidates?view=checks")
    page.get_by_text("Succeeded").first.wait_for()
    browser.picture("checks")
    browser.open("/assets/candidates?view=partitions&partition=amazon")
    page.get_by_text("Materialized", exact=True).first.wait_for()
    page.get_by_text("[Show Markdown]").click()
    shown = page.get_by_role("dialog").locator("img")
    shown.wait_for()
    assert shown.evaluate("image => image.naturalWidth") > 500
    browser.picture("picture")


def test_all_checks_of_an_asset_are_executed_for_every_dataset(browser: Browser) -> None:
    page = browser.open("/assets/candidates?view=checks")
    page.get_by_role("button", name="Execute all").click()

    def ended() -> str | None:
        statuses = [run["status"] for run in browser.runs() if run["assetCheckSelection"]]
        return next((status for status in statuses if status in ("SUCCESS", "FAILURE")), None)

    assert browser.server.wait_for(ended, seconds=90) == "SUCCESS"
    browser.open("/assets/candidates?view=checks")
    page.get_by_text("needs candidates, of which nothing is published").first.wait_for()
    browser.picture("all_checks")


def test_a_backfill_of_both_partitions_runs_each(browser: Browser) -> None:
    page = browser.open("/assets/ground_truth")
    dialog = asked_to_materialize(page)
    dialog.get_by_role("button", name="All", exact=True).click()
    dialog.get_by_role("button", name="Launch backfill").click()

    def ended() -> Any:
        found = browser.server.graphql(BACKFILLS)["partitionBackfillsOrError"]["results"]
        of_this_page = [one for one in found if one["timestamp"] > browser.opened]
        return next((one for one in of_this_page if one["status"].startswith("COMPLETED")), None)

    backfill = browser.server.wait_for(ended, seconds=150)
    assert (backfill["status"], sorted(backfill["partitionNames"])) == ("COMPLETED_SUCCESS", ["amazon", "films"])
    assert browser.statuses(dataset="films") == ["SUCCESS"]
    browser.open("/runs/")
    page.get_by_text("Success").first.wait_for()
    browser.picture("runs")


def test_a_schedule_is_turned_on(browser: Browser) -> None:
    selector = {
        "repositoryLocationName": "personarank_dagster",
        "repositoryName": "__repository__",
        "scheduleName": "amazon_schedule",
    }

    def running() -> bool:
        found = browser.server.graphql(SCHEDULE, selector=selector)["scheduleOrError"]
        return bool(found["scheduleState"]["status"] == "RUNNING")

    # The page lays its rows out anew while it loads, and a click in that moment is lost.
    for _ in range(3):
        page = browser.open("/automation")
        name = page.get_by_text("amazon_schedule").first
        switch = "label[contains(@class, 'witch')]"
        # While the page is drawn anew the row may be a part of more than one list.
        name.locator(f"xpath=ancestor::*[.//{switch}][1]//{switch}").first.click()
        if browser.server.becomes(running, seconds=20):
            break
    assert running()
    browser.picture("automation")
