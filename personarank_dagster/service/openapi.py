"""The description of the service: `/openapi.json`, made from the types of requests and answers."""

from collections.abc import Sequence
from typing import Any

import msgspec

from personarank_dagster.service.messages import Readiness, Refusal, RerankAnswer, RerankRequest
from personarank_dagster.service.settings import Limits
from personarank_dagster.version import __version__

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


def document(datasets: Sequence[str], limits: Limits) -> dict[str, Any]:
    """The whole description, as OpenAPI 3.1, for a service of these datasets."""
    _, schemas = msgspec.json.schema_components(TYPES, ref_template=REF)
    _complete(schemas, datasets, limits)
    token = {"token": {"type": "http", "scheme": "bearer", "description": "where the service has one"}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "personarank", "version": __version__, "description": "Reranking by personas."},
        "paths": {**_reranking(), **_state(), **_exploring(several=len(datasets) > 1)},
        "components": {"schemas": schemas, "securitySchemes": token},
        "security": [{}, {"token": []}],
    }


def _complete(schemas: dict[str, Any], datasets: Sequence[str], limits: Limits) -> None:
    """Add the rules that the types do not hold."""
    request = schemas["RerankRequest"]
    fields, nothing = request["properties"], {"type": "null"}
    fields["candidates"]["maxItems"] = limits.candidates
    for kind in fields["history"]["anyOf"]:
        if kind.get("type") == "array":
            kind["maxItems"] = limits.history
    one_of = {"user": {"type": "string"}, "history": {"type": "array"}}
    request["oneOf"] = [
        {"required": [name], "properties": {name: kind, **{other: nothing for other in one_of if other != name}}}
        for name, kind in one_of.items()
    ]
    if len(datasets) > 1:
        request["required"].append("dataset")
        fields["dataset"] = {"type": "string", "examples": list(datasets)}
    for kind in schemas["HistoryItem"]["properties"]["timestamp"]["anyOf"]:
        if kind.get("type") == "string":
            kind["format"] = "date-time"


def _reranking() -> dict[str, Any]:
    one = _operation("Rerank a list.", _json(RerankAnswer), body=_json(RerankRequest))
    lines = {"application/x-ndjson": {"schema": {"type": "string"}}}
    batch = _operation("Rerank many lists: a request a line in, an answer or an error a line out.", lines, body=lines)
    batch["requestBody"]["required"] = False
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


def _exploring(*, several: bool) -> dict[str, Any]:
    anything = {"application/json": {"schema": {"type": "object"}}}

    def get(told: str, *names: str) -> dict[str, Any]:
        return {"get": _operation(told, anything, parameters=[_parameter(name, several) for name in names])}

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


def _parameter(name: str, several: bool) -> dict[str, Any]:
    schemas: dict[str, Any] = {
        "moved": {"enum": ["up", "down", "any"]},
        "top": {"type": "integer", "minimum": 1, "maximum": 100},
    }
    required = name == "user" or (name == "dataset" and several)
    return {"name": name, "in": "query", "required": required, "schema": schemas.get(name, {"type": "string"})}


def _json(kind: type) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": REF.format(name=kind.__name__)}}}
