"""From a request to an answer: validation, the arm, the order, what is logged of it."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import cast

from msgspec import Raw

from personarank_dagster.core.errors import InputError
from personarank_dagster.service.counters import Counters
from personarank_dagster.service.datasets import Dataset, Datasets
from personarank_dagster.service.experiment.arms import Arms
from personarank_dagster.service.experiment.impressions import Impressions, impression
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
from personarank_dagster.serving.rankings import Ranking

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
        ranking = _rank(dataset, asked)
        note = ranking.note if arm == "reranked" else PASSED_THROUGH
        answer = RerankAnswer(
            results=_results(dataset, asked, ranking) if arm == "reranked" else _passed_through(asked),
            dataset=dataset.name,
            version=ranking.version,
            arm=arm,
            recommendation_id=recommendation_id,
            note="; ".join([part for part in (note, asked.left_out) if part]) or None,
        )
        self._count(request, ranking)
        if self.impressions is not None:
            self._log(self.impressions, asked, answer, ranking)
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

    def _count(self, request: RerankRequest, ranking: Ranking) -> None:
        counters = self.counters
        counters.add("lists")
        counters.add("candidates", len(request.candidates))
        if ranking.unknown_items:
            counters.add("unknown_items", ranking.unknown_items)
        if request.user is not None and not ranking.has_profile:
            counters.add("unknown_users")

    def _log(self, impressions: Impressions, asked: "Asked", answer: RerankAnswer, ranking: Ranking) -> None:
        user = impressions.user(answer.dataset, asked.request.user)
        final = ranking.found.final.tolist()
        order = [(asked.pairs[pair][0], final[pair]) for pair in ranking.found.order.tolist()]
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

    @cached_property
    def indices(self) -> Sequence[int]:
        """Place in the request, from 0, of each candidate that counts."""
        if self.left_out is None:
            return range(len(self.pairs))
        first = {one.item_id: index for index, one in reversed([*enumerate(self.request.candidates)])}
        return [first[item] for item, _ in self.pairs]


def _rank(dataset: Dataset, asked: Asked) -> Ranking:
    reranker, request = dataset.ready(), asked.request
    if request.history is None:
        return reranker.rank(request.user, asked.pairs, request.top_n, explain=request.explain)
    history = [one if isinstance(one, str) else _interaction(one) for one in request.history]
    return reranker.rank(None, asked.pairs, request.top_n, history=history, explain=request.explain)


def _results(dataset: Dataset, asked: Asked, ranking: Ranking) -> list[Result]:
    pairs, indices, found = asked.pairs, asked.indices, ranking.found
    scores, best, final = found.scores.tolist(), found.best.tolist(), found.final.tolist()
    order: list[int] = found.order.tolist()
    results = (
        (indices[pair], pairs[pair][0], final[pair], pair + 1, scores[pair] if best[pair] >= 0 else None)
        for pair in order
    )
    if not asked.request.explain:
        return [Result(*result) for result in results]
    # What is written already goes into the answer as it is.
    personas = cast(
        "Iterator[Persona]", _personas(dataset, ranking, [row for pair in order if (row := best[pair]) >= 0])
    )
    return [
        Result(*result) if result[-1] is None else Result(*result, next(personas), reasons)
        for result, reasons in zip(results, ranking.reasons(Reason), strict=False)
    ]


def _personas(dataset: Dataset, ranking: Ranking, rows: list[int]) -> Iterator[Persona | Raw]:
    ids, texts = ranking.persona_ids, dataset.texts
    named = [ids[row] for row in rows]
    return iter(texts.of(named)) if texts else map(Persona, named)


def _passed_through(asked: Asked) -> list[Result]:
    return [
        Result(index, item, score, rank, None)
        for rank, (index, (item, score)) in enumerate(zip(asked.indices, asked.shown, strict=False), 1)
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
