"""A generated dataset with known tastes, row by row, for demonstrations, tests and load tests.

Every item appeals to some latent tastes and has a persona for each; every user has one or two tastes, and
chooses and writes accordingly. A user is drawn from random numbers of its own, so memory grows with the
number of items only. The same `(schema, num_users, seed)` always gives the same rows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import get_args

import numpy as np

from personarank_dagster.core.aspects import SchemaName
from personarank_dagster.sample import vocabulary as vocabulary
from personarank_dagster.sample.items import (
    Floats,
    Integers,
    Row,
    SampleItem,
    draw_weighted,
    generator,
    identifier,
    key_bytes,
    make_item,
    number_of_items,
    pick,
)
from personarank_dagster.sample.vocabulary import ASPECTS, PHRASES_BY_ASPECT, TASTES

TOPK = 30
PAD = "[PAD]"
SELECTED_FIELDS = ("ID", "Name", "Description", "Preference_Rationale")
# How far each choice follows taste (affinity 0 to 1) and popularity, against Gumbel noise of scale 1.
_TASTE_PULL = {"ground_truth": 11.0, "liked": 6.0, "disliked": -4.0, "retrieved": 0.8, "score": 1.6}
_POPULARITY_PULL = 0.5
_GROUND_TRUTH_COVERAGE = 0.8
_WRONG_SELECTION = 0.1
_NULL_ASPECT = 0.2
_REVIEWS_PER_ITEM = 24
_POOL_SIZE = 200
_DAY = 86_400
_FIRST_DAY = int(datetime(2016, 1, 1, tzinfo=UTC).timestamp())


@dataclass(frozen=True)
class SampleUser:
    """All rows of one user; `history` or `candidates` is None for the few users without."""

    history: Row | None
    selections: list[Row]
    candidates: Row | None
    ground_truth: Row
    reviews: list[Row]


@dataclass(frozen=True)
class _Interaction:
    user: int
    position: int
    item: int
    taste: int
    rating: float
    seconds: int


@dataclass(frozen=True)
class _Plan:
    """What a user does, before any text is written. Items are places in the catalogue."""

    interactions: list[_Interaction]
    ground_truth: int
    retrieved: Integers  # (candidates,), in no order
    scores: Floats  # (candidates,)


class SampleDataset:
    """The rows of one generated dataset, file by file or user by user."""

    def __init__(self, schema: SchemaName, num_users: int, seed: int) -> None:
        """Raises ValueError for an unknown schema, `num_users < 1` or `seed < 0`."""
        if schema not in get_args(SchemaName):
            raise ValueError(f"sample data: schema must be one of {get_args(SchemaName)}, got {schema!r}")
        if num_users < 1 or seed < 0:
            raise ValueError(f"sample data: users must be >= 1 and seed >= 0, got {num_users} and {seed}")
        self.schema: SchemaName = schema
        self.num_users = num_users
        self.seed = seed

    @cached_property
    def items(self) -> tuple[SampleItem, ...]:
        """The catalogue, with what is hidden in the files: the appeal of each item to each taste."""
        num_items = number_of_items(self.num_users)
        return tuple(make_item(self.schema, self.seed, index) for index in range(num_items))

    def summaries(self) -> Iterator[Row]:
        """Rows of `2_summary`."""
        return (item.summary_row for item in self.items)

    def personas(self) -> Iterator[Row]:
        """Rows of `3.5_persona_with_summary`; a few items have no personas and no row."""
        kept = (item for item in self.items if item.persona_by_taste)
        return ({"item_id": item.item_id, "personas": list(item.persona_by_taste.values())} for item in kept)

    def grouped(self) -> Iterator[Row]:
        """Rows of `2.5_grouped`: each item with the first 24 interactions of the histories at most."""
        places: list[list[tuple[int, int]]] = [[] for _ in self.items]
        for user in range(self.num_users):
            for interaction in self._plan(user).interactions:
                if len(places[interaction.item]) < _REVIEWS_PER_ITEM:
                    places[interaction.item].append((user, interaction.position))
        for item, its_places in zip(self.items, places, strict=True):
            aspects = [self._grouped_review(*place) for place in its_places]
            yield {**item.summary_row, "aspects": aspects, "aspect_count": len(aspects)}

    def users(self) -> Iterator[SampleUser]:
        """Users in order, each made only when it is asked for."""
        return (self._user(index) for index in range(self.num_users))

    def histories(self) -> Iterator[Row]:
        """Rows of `3.5_history_loo`."""
        return (user.history for user in self.users() if user.history is not None)

    def selections(self) -> Iterator[Row]:
        """Rows of `4_selected_personas`."""
        return (selection for user in self.users() for selection in user.selections)

    def candidates(self) -> Iterator[Row]:
        """Rows of `candidate`."""
        return (user.candidates for user in self.users() if user.candidates is not None)

    def ground_truths(self) -> Iterator[Row]:
        """Rows of `gt`."""
        return (user.ground_truth for user in self.users())

    def reviews(self) -> Iterator[Row]:
        """Rows of `review`: the interactions of the histories, without text."""
        return (review for user in self.users() for review in user.reviews)

    @cached_property
    def _strengths(self) -> Floats:
        return np.stack([item.strengths for item in self.items])  # (items, tastes)

    @cached_property
    def _popularity(self) -> Floats:
        return np.array([item.popularity for item in self.items])  # (items,)

    def _plan(self, user: int) -> _Plan:
        """Draw a user's tastes, and by them the held-out item, the history and the candidates."""
        rng = generator(self.seed, self.schema, "user", user)
        weights = _draw_taste_weights(rng, self._strengths.shape[1])
        pool = _draw_pool(rng, len(self.items))
        affinity, popularity = self._strengths[pool] @ weights, self._popularity[pool]
        choices = {name: _draw_scores(rng, name, affinity, popularity) for name in _TASTE_PULL}
        held_out = int(np.argmax(choices["ground_truth"]))
        liked, places = _draw_history(rng, choices, held_out) if user % 33 != 7 else ([], [])
        retrieved = _draw_retrieved(rng, choices["retrieved"], places, held_out)
        return _Plan(
            interactions=self._date_history(rng, user, weights, pool[places].tolist(), liked),
            ground_truth=int(pool[held_out]),
            retrieved=pool[retrieved],
            scores=choices["score"][retrieved],
        )

    def _date_history(
        self, rng: np.random.Generator, user: int, weights: Floats, items: list[int], liked: list[bool]
    ) -> list[_Interaction]:
        """Give a user's interactions, in order, their time, rating and the taste they speak of."""
        gaps = _DAY + (60 * _DAY * rng.random(len(items))).astype(np.int64)
        seconds = _FIRST_DAY + int(1000 * _DAY * rng.random()) + np.cumsum(gaps)
        interactions = []
        for position, (item, is_liked) in enumerate(zip(items, liked, strict=True)):
            appeal = self._strengths[item] * (weights if is_liked else 1.0)
            taste = draw_weighted(rng, appeal if appeal.any() else weights)
            rating = 4.0 + (rng.random() < 0.6) if is_liked else 1.0 + int(3 * rng.random())
            interactions.append(_Interaction(user, position, item, taste, rating, int(seconds[position])))
        return interactions

    def _user(self, index: int) -> SampleUser:
        plan = self._plan(index)
        user_id = identifier(self.schema, "user", self.seed, index)
        reviews = [self._history_review(user_id, interaction) for interaction in plan.interactions]
        candidates = {"user_id": user_id, "topk": TOPK, "results": self._results(plan, index)}
        return SampleUser(
            history={"user_id": user_id, "reviews": reviews} if reviews else None,
            selections=self._selections(user_id, plan.interactions),
            candidates=candidates if index % 80 != 21 else None,
            ground_truth={"user_id": user_id, "item_id": self.items[plan.ground_truth].item_id},
            reviews=[self._bare_review(user_id, interaction) for interaction in plan.interactions],
        )

    def _results(self, plan: _Plan, index: int) -> list[Row]:
        """Candidates best first. Every twentieth user has pads: the last place and two others."""
        dice = key_bytes(self.seed, self.schema, "pads", index)
        pads = {TOPK - 1, next(dice) % TOPK, next(dice) % TOPK} if index % 20 == 3 else set()
        results = []
        for rank, place in enumerate(np.argsort(-plan.scores, kind="stable")):
            item = int(plan.retrieved[place])
            is_pad = rank in pads and item != plan.ground_truth
            score = round(float(plan.scores[place]) / 10, 5)
            results.append({"item_id": PAD if is_pad else self.items[item].item_id, "score": score})
        return results

    def _selections(self, user_id: str, interactions: list[_Interaction]) -> list[Row]:
        """The personas chosen for two to four liked interactions that have a liked one before them."""
        liked = [one for one in interactions if one.rating >= 4]
        eligible = [one for one in liked[1:] if one.taste in self.items[one.item].persona_by_taste]
        dice = key_bytes(self.seed, self.schema, "selections", user_id)
        start = next(dice) % max(1, len(eligible))
        chosen = (eligible[start:] + eligible[:start])[: 2 + next(dice) % 3]
        return [self._selection(user_id, one, dice) for one in sorted(chosen, key=lambda one: one.position)]

    def _selection(self, user_id: str, target: _Interaction, dice: Iterator[int]) -> Row:
        item = self.items[target.item]
        is_wrong = next(dice) < 256 * _WRONG_SELECTION
        persona = pick(tuple(item.persona_by_taste.values()), dice)
        if not is_wrong:
            persona = item.persona_by_taste[target.taste]
        wish = pick(TASTES[self.schema][target.taste]["category"], dice)
        fit = f"The user's earlier reviews ask for {wish}, which is closest to {persona['Name']}."
        return {
            "user_id": user_id,
            "target_item_id": item.item_id,
            "selected_persona_id": persona["ID"],
            "selected_persona_name": persona["Name"],
            "selected_persona": {key: persona[key] for key in SELECTED_FIELDS},
            "selection_reasoning": f"{fit}  Selection: {persona['ID'][1:]}. {persona['unique_persona_id']}",
        }

    def _bare_review(self, user_id: str, interaction: _Interaction) -> Row:
        item_id = self.items[interaction.item].item_id
        return {
            "user_id": user_id,
            "item_id": item_id,
            "parent_asin" if self.schema == "amazon" else "business_id": item_id,
            "rating": interaction.rating,
            "timestamp": _timestamp(self.schema, interaction.seconds),
        }

    def _history_review(self, user_id: str, interaction: _Interaction) -> Row:
        item = self.items[interaction.item]
        verdict = vocabulary.VERDICTS[int(interaction.rating) - 1]
        return {
            "user_id": user_id,
            "item_id": item.item_id,
            "review_title": verdict if self.schema == "amazon" else "",
            "summary": item.summary_row["item_summary"],
            "extracted": self._aspects(interaction),
            "timestamp": _timestamp(self.schema, interaction.seconds),
            "rating": interaction.rating,
        }

    def _grouped_review(self, user: int, position: int) -> Row:
        interaction = self._plan(user).interactions[position]
        verdict = vocabulary.VERDICTS[int(interaction.rating) - 1]
        is_amazon = self.schema == "amazon"
        number = 16 * user + position
        return {
            "review_id": number if is_amazon else identifier("yelp", "review", self.seed, number),
            "item_id": self.items[interaction.item].item_id,
            "user_id": identifier(self.schema, "user", self.seed, user),
            "rating": interaction.rating,
            "timestamp": _timestamp(self.schema, interaction.seconds),
            **({"review_title": verdict} if is_amazon else {}),
            "review_text": f"{verdict}: {self._evidence(interaction)}.",
            "extracted_aspects": self._aspects(interaction),
        }

    def _evidence(self, interaction: _Interaction) -> str:
        dice = key_bytes(self.seed, self.schema, "evidence", interaction.user, interaction.position)
        return pick(TASTES[self.schema][interaction.taste]["evidence"], dice)

    def _aspects(self, interaction: _Interaction) -> Row:
        """Write the aspects of one interaction in the words of its taste; some are None with their reason."""
        dice = key_bytes(self.seed, self.schema, "aspects", interaction.user, interaction.position)
        taste = TASTES[self.schema][interaction.taste]
        lead = "Says" if interaction.rating >= 4 else "Expected"
        aspects: Row = {}
        for stem in dict.fromkeys(key.removesuffix("_reason") for key in ASPECTS[self.schema]):
            phrase, evidence = pick(taste[PHRASES_BY_ASPECT[stem]], dice), pick(taste["evidence"], dice)
            is_null = next(dice) < 256 * _NULL_ASPECT
            if stem == "quality_criteria" and interaction.rating < 4:
                phrase = f"{phrase}, {pick(vocabulary.COMPLAINTS, dice)}"
            aspects[stem] = None if is_null else phrase
            aspects[f"{stem}_reason"] = None if is_null else f'{lead} "{evidence}".'
        return {key: aspects[key] for key in ASPECTS[self.schema]}


def _draw_taste_weights(rng: np.random.Generator, num_tastes: int) -> Floats:
    """One taste of weight 1, or for half of the users two of 0.65 and 0.35."""
    first, second = np.argsort(rng.random(num_tastes))[:2]
    weights = np.zeros(num_tastes)
    weights[first], weights[second] = (1.0, 0.0) if rng.random() < 0.5 else (0.65, 0.35)
    return weights


def _draw_pool(rng: np.random.Generator, num_items: int) -> Integers:
    """The items that a user may meet at all, so that a user's cost does not grow with the catalogue."""
    return rng.choice(num_items, size=min(num_items, _POOL_SIZE), replace=False, shuffle=False)


def _draw_scores(rng: np.random.Generator, choice: str, affinity: Floats, popularity: Floats) -> Floats:
    """Scores whose largest are a random choice without repetition (Gumbel top-k)."""
    noise = -np.log(-np.log(rng.random(len(affinity))))
    return _TASTE_PULL[choice] * affinity + _POPULARITY_PULL * popularity + noise


def _draw_history(rng: np.random.Generator, scores: dict[str, Floats], held_out: int) -> tuple[list[bool], list[int]]:
    """4 to 12 interactions, first to last: whether each was liked, and its place in the pool."""
    num_interactions = 4 + int(9 * rng.random())
    liked = [True, *(bool(draw < 0.78) for draw in rng.random(num_interactions - 1))]
    ranked = _best(scores["liked"], sum(liked), without=[held_out])
    liked_places = ranked[np.argsort(rng.random(len(ranked)))]
    num_others = num_interactions - len(liked_places)
    others = _best(scores["disliked"], num_others, without=[held_out, *liked_places])
    places, other_places = iter(liked_places.tolist()), iter(others.tolist())
    return liked, [next(places) if is_liked else next(other_places) for is_liked in liked]


def _best(scores: Floats, num_places: int, *, without: Sequence[int]) -> Integers:
    """Places of the largest scores, best first."""
    scores = scores.copy()
    scores[without] = -np.inf
    return np.argsort(-scores, kind="stable")[:num_places]


def _draw_retrieved(rng: np.random.Generator, scores: Floats, seen: list[int], held_out: int) -> Integers:
    """Places of the candidates: nothing seen before, and most times the held-out item."""
    if rng.random() >= _GROUND_TRUTH_COVERAGE:
        return _best(scores, TOPK, without=[*seen, held_out])
    return np.append(_best(scores, TOPK - 1, without=[*seen, held_out]), held_out)


def _timestamp(schema: SchemaName, seconds: int) -> int | str:
    if schema == "amazon":
        return seconds * 1000
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
