"""The routes for people: the page, its data, and the description of the service."""

import asyncio
import base64
import hashlib
import html
import re
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import msgspec

from personarank_dagster.service.app import Exchange, Route
from personarank_dagster.service.datasets import Datasets
from personarank_dagster.service.explore.explorer import Explorer, parse_query
from personarank_dagster.service.messages import encode
from personarank_dagster.service.openapi import document
from personarank_dagster.service.settings import Limits

HTML, SCRIPT = b"text/html; charset=utf-8", b"text/javascript; charset=utf-8"
DOCS = "<!doctype html><html lang=en><meta charset=utf-8><title>personarank: API</title><h1>personarank: API</h1>"

Give = Callable[[dict[str, str]], Any]


def page_routes(datasets: Datasets, limits: Limits) -> dict[str, Route]:
    """All of them; what holds no data needs no token."""
    explorer, described = Explorer(datasets), document([*datasets.by_name], limits)
    page, script = (files(__package__).joinpath("page", name).read_bytes() for name in ("index.html", "page.js"))
    return {
        "/": _static(page, HTML),
        "/page.js": _static(script, SCRIPT),
        "/docs": _static(_docs(described).encode(), HTML),
        "/openapi.json": _static(encode(described), b"application/json"),
        "/v1/datasets": _data(explorer.datasets),
        "/v1/users": _data(explorer.users),
        "/v1/users/random": _data(explorer.random_user),
        "/v1/lists": _data(explorer.list_of),
    }


def _static(content: bytes, kind: bytes) -> Route:
    headers = {"content-security-policy": _policy(content)} if kind == HTML else {}

    async def handle(exchange: Exchange) -> None:
        await exchange.reply(content, kind=kind, headers=headers)

    return Route("GET", handle, "page", is_open=True)


def _data(give: Give) -> Route:
    async def handle(exchange: Exchange) -> None:
        query = parse_query(exchange.scope["query_string"])
        await exchange.reply(encode(await asyncio.to_thread(give, query)))

    return Route("GET", handle, "page")


def _policy(page: bytes) -> str:
    """Nothing but the page's own script, style and data, and no page around it."""
    styles = re.findall(rb"<style>(.*?)</style>", page, re.S)
    hashes = [base64.b64encode(hashlib.sha256(style).digest()).decode() for style in styles]
    allowed = " ".join(f"'sha256-{one}'" for one in hashes) or "'none'"
    return (
        f"default-src 'none'; script-src 'self'; style-src {allowed}; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _docs(described: dict[str, Any]) -> str:
    """The description for people."""
    parts = [
        f"<h2>{method.upper()} {html.escape(path)}</h2><p>{html.escape(operation['summary'])}</p>"
        for path, operations in described["paths"].items()
        for method, operation in operations.items()
    ]
    schemas = msgspec.json.format(encode(described["components"]["schemas"]), indent=2).decode()
    return f"{DOCS}{''.join(parts)}<h2>Types</h2><pre>{html.escape(schemas)}</pre>"
