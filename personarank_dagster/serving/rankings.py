"""One reranked list: as arrays, which a service writes from, and as places with their explanations."""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, repeat
from typing import NamedTuple, TypeVar

from personarank_dagster.ranking.ranker import OneList
from personarank_dagster.ranking.signals import named_parts
from personarank_dagster.serving.candidates import Candidates
from personarank_dagster.serving.strings import Strings

ReasonT = TypeVar("ReasonT")
NO_REASONS: tuple[list[int], list[float]] = [], []


class Reason(NamedTuple):
    """An interaction of the user, by its item or its place in the given history, and what it adds to the score."""

    interaction: str | int
    contribution: float


class Place(NamedTuple):
    """One place of a reranked list. Without a persona score (see `Reranked.note`) the explanation is empty.

    `signals` are what each adds to the score where the blend is learned; they sum to it.
    """

    item_id: str
    rank: int
    candidate_rank: int
    score: float
    candidate_score: float
    persona_score: float | None
    unique_persona_id: str | None
    reasons: tuple[Reason, ...]
    signals: dict[str, float] | None = None


class Reranked(list[Place]):
    """The places, best first.

    `note` says why there is no new order, where there is none, and which candidates were left out. `version` names
    the versions of caches and settings together, `has_profile` is false where nothing is known of the user.
    """

    note: str | None = None
    version: str = ""
    unknown_items: int = 0
    has_profile: bool = False


class Ranking(NamedTuple):
    """The candidates that count, as pairs, and their order in `found`, as far as places were asked for.

    `interactions` are those of the profile, from row `first_interaction` of the index on, without any if no reasons
    were asked for. For the rest see `Reranked`.
    """

    candidates: Candidates
    found: OneList
    persona_ids: Strings
    interactions: Sequence[str | int]
    first_interaction: int
    has_profile: bool
    unknown_items: int
    version: str
    note: str | None

    def reasons(self, make: Callable[[str | int, float], ReasonT]) -> Iterator[list[ReasonT]]:
        """Interactions behind each place and what they add; without end, and empty where none were asked for."""
        names, first = self.interactions, self.first_interaction
        told = zip(self.found.reasons.tolist(), self.found.contributions.tolist(), strict=True)
        for rows, amounts in chain(told, repeat(NO_REASONS)):
            yield [make(names[row - first], amount) for row, amount in zip(rows, amounts, strict=True) if row >= 0]

    def places(self) -> Reranked:
        """The places with all that is known of them."""
        found = self.found
        scores, best, final, parts = (
            array.tolist() for array in (found.scores, found.best, found.final, found.parts)
        )
        reranked = Reranked()
        for rank, (pair, reasons) in enumerate(zip(found.order.tolist(), self.reasons(Reason), strict=False), 1):
            item, candidate_score = self.candidates[pair]
            persona, persona_score = None, None
            told: tuple[Reason, ...] = ()
            if (row := best[pair]) >= 0:
                persona, persona_score = self.persona_ids[row], scores[pair]
                told = tuple(reasons)
            signals = named_parts(parts[pair]) if parts else None
            reranked.append(
                Place(item, rank, pair + 1, final[pair], candidate_score, persona_score, persona, told, signals)
            )
        reranked.note, reranked.version = self.note, self.version
        reranked.unknown_items, reranked.has_profile = self.unknown_items, self.has_profile
        return reranked
