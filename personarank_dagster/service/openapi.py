"""The description of the service: `/openapi.json`, made from the types of requests and answers."""

from typing import Any

import msgspec

from personarank_dagster import __version__
from personarank_dagster.service.messages import Readiness, Refusal, RerankAnswer, RerankRequest

REF = "#/components/schemas/{name}"
TYPES = (RerankRequest, RerankAnswer, Refusal, Readiness)
WRONG = {
    "400": "the request breaks a rule",
    "401": "no token, or another one",
    "403": "from another site's page",
    "404": "an unknown dataset, user or path",
    "405": "another method",
    "408": "the request did not arrive in time",
    "413": "too large",
    "429": "too many at a time; see Retry-After",
    "503": "the dataset is not loaded yet; see Retry-After",
}


def document() -> dict[str, Any]:
    """The whole description, as OpenAPI 3.1."""
    _, schemas = msgspec.json.schema_components(TYPES, ref_template=REF)
    token = {"token": {"type": "http", "scheme": "bearer", "description": "where the service has one"}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "personarank", "version": __version__, "description": "Reranking by personas."},
        "paths": {**_reranking(), **_state(), **_exploring()},
        "components": {"schemas": schemas, "securitySchemes": token},
        "security": [{}, {"token": []}],
    }


def _reranking() -> dict[str, Any]:
    one = _operation("Rerank a list.", _json(RerankAnswer), body=_json(RerankRequest))
    lines = {"application/x-ndjson": {"schema": {"type": "string"}}}
    batch = _operation("Rerank many lists: a request a line in, an answer or an error a line out.", lines, body=lines)
    return {"/v1/rerank": {"post": one}, "/v1/rerank/batch": {"post": batch}}


def _state() -> dict[str, Any]:
    text = {"text/plain": {"schema": {"type": "string"}}}
    ready = _operation("Whether a version of every dataset is loaded.", _json(Readiness))
    ready["responses"]["503"] = {"description": "not yet", "content": _json(Readiness)}
    anything = {"application/json": {"schema": {"type": "object"}}}
    return {
        "/health/live": {"get": _operation("Whether the process answers.", anything)},
        "/health/ready": {"get": ready},
        "/metrics": {"get": _operation("Counts and latencies for Prometheus.", text)},
    }


def _exploring() -> dict[str, Any]:
    anything = {"application/json": {"schema": {"type": "object"}}}

    def get(told: str, *names: str) -> dict[str, Any]:
        return {"get": _operation(told, anything, parameters=[_parameter(name) for name in names])}

    return {
        "/v1/datasets": get("Datasets, versions and metrics of all users."),
        "/v1/users": get("Users whose id begins with q.", "dataset", "q"),
        "/v1/users/random": get("A user whose held-out item moved up, down or any way.", "dataset", "moved"),
        "/v1/lists": get("A published list, with what is behind each place.", "dataset", "user", "top"),
    }


def _operation(told: str, content: dict[str, Any], **more: Any) -> dict[str, Any]:
    responses: dict[str, Any] = {"200": {"description": "the answer", "content": content}}
    for status, why in WRONG.items():
        responses[status] = {"description": why, "content": _json(Refusal)}
    if "body" in more:
        more["requestBody"] = {"required": True, "content": more.pop("body")}
    return {"summary": told, "responses": responses, **more}


def _parameter(name: str) -> dict[str, Any]:
    schemas: dict[str, Any] = {
        "moved": {"enum": ["up", "down", "any"]},
        "top": {"type": "integer", "minimum": 1, "maximum": 100},
    }
    return {"name": name, "in": "query", "schema": schemas.get(name, {"type": "string"})}


def _json(kind: type) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": REF.format(name=kind.__name__)}}}
