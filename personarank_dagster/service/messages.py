"""What a request and an answer hold. `openapi.py` describes them from here."""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

Arm = Literal["reranked", "candidates", "shadow"]


class Candidate(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """An item with the retriever's score."""

    item_id: str
    score: float


class HistoryItem(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """An item that the user has used. Times order a history if all of its items have one."""

    item_id: str
    rating: float | None = None
    timestamp: Annotated[
        float | str | None, Meta(description="epoch seconds, or a time as in ISO 8601 (UTC where it names no zone)")
    ] = None


class RerankRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """A list to be reranked, for a user of the dataset or for somebody with this history; one of both."""

    candidates: Annotated[list[Candidate], Meta(description="best first")]
    dataset: Annotated[str | None, Meta(description="may be left out where one dataset is served")] = None
    user: str | None = None
    history: Annotated[
        list[HistoryItem | str] | None, Meta(description="items, or texts of interactions; oldest first")
    ] = None
    top_n: Annotated[int, Meta(ge=0, le=10**6, description="places to return; all if left out")] | None = None
    explain: bool = False


class Persona(Struct, frozen=True, omit_defaults=True, gc=False):
    """The persona behind a place."""

    unique_persona_id: str
    name: str | None = None
    description: str | None = None
    preference_rationale: str | None = None


class Reason(Struct, frozen=True, gc=False):
    """An interaction, by its item or its place in the given history, and what it adds to the persona score."""

    interaction: str | int
    contribution: float


class Result(Struct, frozen=True, gc=False):
    """A place of the list; `index` and `candidate_rank` are the candidate's place in the request."""

    index: Annotated[int, Meta(description="place in `candidates`, from 0")]
    item_id: str
    relevance_score: float
    candidate_rank: Annotated[int, Meta(description="place in the candidate order, from 1, without what is left out")]
    persona_score: float | None
    persona: Persona | UnsetType = UNSET
    reasons: list[Reason] | UnsetType = UNSET


class RerankAnswer(Struct, frozen=True, kw_only=True, gc=False):
    """A reranked list, best first. `note` says why there is no new order, and what was left out."""

    results: list[Result]
    dataset: str
    version: str
    arm: Arm
    recommendation_id: str
    note: str | None


class Refusal(Struct, frozen=True):
    """Why a request was not answered."""

    error: str


class Readiness(Struct, frozen=True):
    """For each dataset its version, or why none is loaded."""

    ready: bool
    datasets: dict[str, str]


encode = msgspec.json.Encoder().encode
decode_request = msgspec.json.Decoder(RerankRequest).decode
