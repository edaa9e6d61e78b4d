"""From a request to an answer: validation, the arm, the order, what is logged of it."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

from msgspec.structs import astuple

from personarank_dagster.core.errors import InputError
from personarank_dagster.service.arms import Arms
from personarank_dagster.service.counters import Counters
from personarank_dagster.service.datasets import Dataset, Datasets
from personarank_dagster.service.impressions import Impressions, impression
from personarank_dagster.service.messages import (
    HistoryItem,
    Persona,
    Reason,
    RerankAnswer,
    RerankRequest,
    Result,
)
from personarank_dagster.service.refusals import RefusedError
from personarank_dagster.service.settings import Limits
from personarank_dagster.serving.candidates import without_repeats
from personarank_dagster.serving.given_histories import Interaction
from personarank_dagster.serving.reranker import Place, Reranked

Pairs = Sequence[tuple[str, float]]
PASSED_THROUGH = "passed through without reranking"


@dataclass(frozen=True)
class Answerer:
    """Answers requests, and counts and logs what it answered."""

    datasets: Datasets
    limits: Limits
    arms: Arms
    counters: Counters
    impressions: Impressions | None

    def answer(self, request: RerankRequest) -> RerankAnswer:
        """Rerank, or pass through in another arm. Raises RefusedError or InputError."""
        self._check(request)
        dataset = self.datasets.named(request.dataset)
        asked = Asked.of(request)
        recommendation_id = os.urandom(12).hex()
        arm = self.arms.of(dataset.name, request.user or recommendation_id)
        # Also where the list is passed through: both orders are logged, and what is wrong with it is refused.
        reranked = _rerank(dataset, asked)
        note = reranked.note if arm == "reranked" else PASSED_THROUGH
        answer = RerankAnswer(
            results=_results(dataset, asked, reranked) if arm == "reranked" else _passed_through(asked),
            dataset=dataset.name,
            version=reranked.version,
            arm=arm,
            recommendation_id=recommendation_id,
            note="; ".join([part for part in (note, asked.left_out) if part]) or None,
        )
        self._count(request, reranked)
        if self.impressions is not None:
            self._log(self.impressions, asked, answer, reranked)
        return answer

    def _check(self, request: RerankRequest) -> None:
        limits = self.limits
        if (count := len(request.candidates)) > limits.candidates:
            raise RefusedError(413, f"candidates must be at most {limits.candidates}, got {count}")
        if (request.user is None) == (request.history is None):
            got = "neither" if request.user is None else "both"
            raise RefusedError(400, f"either user or history must be given, got {got}")
        if request.history is not None and (count := len(request.history)) > limits.history:
            raise RefusedError(413, f"history must be at most {limits.history} long, got {count}")

    def _count(self, request: RerankRequest, reranked: Reranked) -> None:
        counters = self.counters
        counters.add("lists")
        counters.add("candidates", len(request.candidates))
        if reranked.unknown_items:
            counters.add("unknown_items", reranked.unknown_items)
        if request.user is not None and not reranked.has_profile:
            counters.add("unknown_users")

    def _log(self, impressions: Impressions, asked: "Asked", answer: RerankAnswer, reranked: Reranked) -> None:
        user = impressions.user(answer.dataset, asked.request.user)
        order = [(place.item_id, place.score) for place in reranked]
        impressions.write(impression(answer, user, [*asked.shown], order))


@dataclass(frozen=True)
class Asked:
    """A request with the candidates that count, and what was left out of them."""

    request: RerankRequest
    pairs: Pairs
    left_out: str | None

    @classmethod
    def of(cls, request: RerankRequest) -> "Asked":
        """The request without `[PAD]` and repeated items."""
        return cls(request, *without_repeats([(one.item_id, one.score) for one in request.candidates]))

    @property
    def shown(self) -> Pairs:
        """The candidates as far as places were asked for."""
        return self.pairs if self.request.top_n is None else self.pairs[: self.request.top_n]

    def index_of(self, item: str, rank: int) -> int:
        """Place of a candidate in the request, from 0."""
        return rank - 1 if self.left_out is None else self._indices[item]

    @cached_property
    def _indices(self) -> dict[str, int]:
        return {one.item_id: index for index, one in reversed([*enumerate(self.request.candidates)])}


def _rerank(dataset: Dataset, asked: Asked) -> Reranked:
    reranker, request = dataset.ready(), asked.request
    if request.history is None:
        return reranker.rerank(request.user, asked.pairs, request.top_n, explain=request.explain)
    history = [one if isinstance(one, str) else _interaction(one) for one in request.history]
    return reranker.rerank(candidates=asked.pairs, k=request.top_n, history=history, explain=request.explain)


def _results(dataset: Dataset, asked: Asked, reranked: Reranked) -> list[Result]:
    index_of = asked.index_of
    results = [
        Result(index_of(item, rank), item, score, rank, persona_score)
        for item, _, rank, score, _, persona_score, *_ in reranked
    ]
    if asked.request.explain:
        return _explained(dataset, results, reranked)
    return results


def _explained(dataset: Dataset, results: list[Result], reranked: Reranked) -> list[Result]:
    ids = [place.unique_persona_id for place in reranked if place.unique_persona_id is not None]
    texts = dataset.texts
    personas = iter(texts.of(ids) if texts else map(Persona, ids))
    return [
        result if place.unique_persona_id is None else _with_reasons(result, place, next(personas))
        for result, place in zip(results, reranked, strict=True)
    ]


def _with_reasons(result: Result, place: Place, persona: Persona) -> Result:
    reasons = [Reason(interaction, contribution) for interaction, contribution in place.reasons]
    index, item, score, rank, persona_score = astuple(result)[:5]
    return Result(index, item, score, rank, persona_score, persona, reasons)


def _passed_through(asked: Asked) -> list[Result]:
    return [
        Result(asked.index_of(item, rank), item, score, rank, None)
        for rank, (item, score) in enumerate(asked.shown, 1)
    ]


def _interaction(item: HistoryItem) -> Interaction:
    return Interaction(item.item_id, item.rating, _seconds(item.timestamp))


def _seconds(timestamp: float | str | None) -> float | None:
    """Epoch seconds of a number or of ISO text; milliseconds order as well as seconds do."""
    if not isinstance(timestamp, str):
        return timestamp
    try:
        found = datetime.fromisoformat(timestamp)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError) as error:
        rule = "epoch seconds or a time as in ISO 8601"
        raise InputError(f"history: timestamp must be {rule}, got {timestamp[:40]!r}") from error
