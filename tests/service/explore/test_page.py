"""The page in a real browser, and the data behind it."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.service.conftest import Server
from tests.service.published import publish_tables

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")


@pytest.fixture(scope="module")
def lists(folder: Path) -> pl.DataFrame:
    return publish_tables(folder / "outputs/amazon")


@pytest.fixture(scope="module")
def shown(lists: pl.DataFrame, start: Callable[..., Server]) -> Server:
    return start()


@pytest.fixture(params=[("light", 1280), ("dark", 360)], ids=["wide", "narrow"])
def page(request: pytest.FixtureRequest, shown: Server) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    scheme, width = request.param
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        problems: list[str] = []
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(f"http://127.0.0.1:{shown.port}/#dataset=amazon&user=u4")
        page.wait_for_selector("#new button")
        yield page
        chromium.close()
    assert [problem for problem in problems if "404" not in problem] == []


def says(page: Any, pattern: str) -> None:
    page.locator("#message", has_text=re.compile(pattern)).wait_for(timeout=10_000)


@pytest.mark.browser
@needs_browser
def test_the_page_shows_a_list_and_what_is_behind_a_place(page: Any, lists: pl.DataFrame) -> None:
    own = lists.filter(user_id="u4").sort("rank")
    labels = [row.get_attribute("aria-label") for row in page.query_selector_all("#new button")]
    assert [re.findall(r"\bi\d", label)[0] for label in labels] == own["item_id"].to_list()
    told = own["unique_persona_id"].is_not_null().arg_true()[0]
    page.query_selector_all("#new button")[told].focus()
    assert page.inner_text("#card h2") == f"Fan {own['unique_persona_id'][told]}"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.browser
@needs_browser
def test_the_page_is_used_by_keyboard_and_texts_are_no_markup(page: Any) -> None:
    page.focus("#new button")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("[...document.querySelectorAll('#new button')].indexOf(document.activeElement)") == 1
    assert page.get_attribute("#new button[aria-current=true]", "aria-label").startswith("Place 2, ")
    assert page.title() == "personarank"
    assert page.query_selector("#card img") is None


@pytest.mark.browser
@needs_browser
def test_somebody_else_is_found_by_the_buttons_and_an_unknown_user_is_said(page: Any) -> None:
    page.fill("#user", "u1")
    page.click("text=Show")
    says(page, r"^u1: 6 candidates")
    page.fill("#user", "nobody")
    page.click("text=Show")
    says(page, "amazon: user 'nobody' has no published list")
    page.click("text=Anybody")
    says(page, r"^u[1-5]: 6 candidates, personas weigh 0\.70 in the blend")


def test_the_data_of_the_page(shown: Server, lists: pl.DataFrame) -> None:
    status, answer, _ = shown.request("GET", "/v1/lists?user=u4&top=3")
    own = lists.filter(user_id="u4").sort("rank").filter((pl.col("rank") <= 3) | (pl.col("candidate_rank") <= 3))
    assert (status, answer["blend"], answer["candidates"]) == (200, 0.7, 6)
    assert [place["item_id"] for place in answer["places"]] == own["item_id"].to_list()
    assert [place["held_out"] for place in answer["places"]] == [True] + [False] * (own.height - 1)
    assert shown.request("GET", "/v1/users?q=u")[1] == {"users": ["u1", "u2", "u3", "u4", "u5"]}
    assert shown.request("GET", "/v1/datasets")[1]["datasets"][0]["metrics"] == []


@pytest.mark.parametrize(
    ("path", "status", "sentence"),
    [
        ("/v1/lists?user=nobody", 404, "amazon: user 'nobody' has no published list"),
        ("/v1/lists?user=u1&top=1e9", 400, "top must be a whole number from 1 to 100, got '1e9'"),
        ("/v1/lists?user=%ff", 400, "the query must be UTF-8"),
        ("/v1/users?dataset=../..", 404, "unknown dataset '../..'"),
        ("/v1/users/random?moved=away", 400, "moved must be one of up, down, any"),
    ],
)
def test_wrong_questions_of_the_page_are_told(shown: Server, path: str, status: int, sentence: str) -> None:
    got, answer, _ = shown.request("GET", path)
    assert (got, answer["error"].startswith(sentence)) == (status, True)


def test_the_page_may_load_nothing_from_elsewhere(shown: Server) -> None:
    _, text, headers = shown.request("GET", "/")
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert "//" not in text.replace("<!doctype", "")
    assert "innerHTML" not in shown.request("GET", "/page.js")[1]


def test_the_description_holds_the_limits_of_the_service(shown: Server) -> None:
    request = shown.request("GET", "/openapi.json")[1]["components"]["schemas"]["RerankRequest"]
    assert request["properties"]["candidates"]["maxItems"] == 1000
    assert [one["required"] for one in request["oneOf"]] == [["user"], ["history"]]


def test_the_description_names_every_route(shown: Server) -> None:
    described = shown.request("GET", "/openapi.json")[1]
    assert described["openapi"] == "3.1.0"
    for path, operations in described["paths"].items():
        for method in operations:
            assert shown.request(method.upper(), path, b"{}" if method == "post" else None)[0] != 405
    assert shown.request("GET", "/docs")[1].count("<h2>") == len(described["paths"]) + 1
