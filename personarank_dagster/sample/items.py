"""Items of the sample data: what each appeals to, its summary, its personas; and how random things are drawn."""

from base64 import b32encode, urlsafe_b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from json import dumps
from math import sqrt
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from personarank_dagster.core.aspects import SchemaName
from personarank_dagster.sample import vocabulary as vocabulary
from personarank_dagster.sample.vocabulary import TASTES, Taste

T = TypeVar("T")
Row = dict[str, Any]
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_PERSON: dict[SchemaName, str] = {"amazon": "musician", "yelp": "diner"}


@dataclass(frozen=True)
class SampleItem:
    """One item: its `2_summary` row, its appeal (0 to 1) to each taste, and a persona by taste, if any."""

    item_id: str
    summary_row: Row
    strengths: Floats  # (tastes,)
    popularity: float
    persona_by_taste: dict[int, Row]


def number_of_items(num_users: int) -> int:
    """Size of the catalogue: 80 up to 160 users, then growing with the square root, 20,000 at most."""
    return min(20_000, max(80, round(6.35 * sqrt(num_users))))


def generator(seed: int, schema: SchemaName, stream: str, index: int) -> np.random.Generator:
    """Random numbers of one user or item, apart from those of all others."""
    key = f"{seed}/{schema}/{stream}/{index}".encode()
    return np.random.default_rng(int.from_bytes(blake2b(key, digest_size=16).digest(), "big"))


def key_bytes(*key: object) -> Iterator[int]:
    """64 bytes that depend on nothing but the key, on every machine and Python version."""
    return iter(blake2b("/".join(map(str, key)).encode()).digest())


def pick(options: Sequence[T], dice: Iterator[int]) -> T:
    """One option, chosen by the next byte."""
    return options[next(dice) % len(options)]


def pick_two(options: Sequence[T], dice: Iterator[int]) -> tuple[T, T]:
    """Two options from different places."""
    first = next(dice) % len(options)
    return options[first], options[first - 1 - next(dice) % (len(options) - 1)]


def identifier(schema: SchemaName, kind: str, seed: int, index: int) -> str:
    """An id of the shape that the real files have: `B0…` and `A…` for amazon, 22 characters for yelp."""
    digest = blake2b(f"{seed}/{schema}/{kind}/{index}".encode(), digest_size=16).digest()
    if schema == "yelp":
        return urlsafe_b64encode(digest).decode()[:22]
    text = b32encode(digest).decode()
    return f"B0{text[:8]}" if kind == "item" else f"A{text[:13]}"


def make_item(schema: SchemaName, seed: int, index: int) -> SampleItem:
    """Draw an item's tastes and write its summary and personas. Every 25th item has no personas."""
    rng = generator(seed, schema, "item", index)
    strengths = _draw_strengths(rng, len(TASTES[schema]))
    tastes = [int(taste) for taste in np.flatnonzero(strengths)]
    item_id = identifier(schema, "item", seed, index)
    (hint,) = TASTES[schema][int(np.argmax(strengths))]["hint"]
    title, description, summary = _describe_item(schema, hint, key_bytes(seed, schema, "item", index))
    personas = {}
    for number, taste in enumerate(tastes if index % 25 != 9 else (), start=1):
        text = _persona_text(schema, TASTES[schema][taste], float(strengths[taste]), key_bytes(item_id, number))
        unique_id = f"{item_id}_P{number}"
        personas[taste] = {
            "ID": f"P{number}",
            **text,
            "Item_Summary": summary,
            "unique_persona_id": unique_id,
        }
    row = {"item_id": item_id, "item_title": title, "item_description": description, "item_summary": summary}
    return SampleItem(item_id, row, strengths, float(rng.normal()), personas)


def _describe_item(schema: SchemaName, hint: str, dice: Iterator[int]) -> tuple[str, str, str]:
    """Title, description and summary of an item."""
    features = vocabulary.PRODUCT_FEATURES if schema == "amazon" else vocabulary.KITCHEN_FEATURES
    both = " and ".join(pick_two(features, dice))
    if schema == "amazon":
        kind = pick(vocabulary.PRODUCTS, dice)
        title = f"{pick(vocabulary.MAKERS, dice)} {pick(vocabulary.STYLES, dice)} {kind} {100 + next(dice)}"
        return title, f"The {title} {both}.", f"{title} {both}. Reviewers often mention {hint}."
    kind = pick(vocabulary.KITCHENS, dice)
    title, town = f"{pick(vocabulary.NAMES, dice)} {kind}", pick(vocabulary.TOWNS, dice)
    city, state = town.split(", ")
    attributes = {"RestaurantsPriceRange2": str(1 + next(dice) % 4), "BusinessAcceptsCreditCards": "True"}
    place = {"name": title, "categories": f"Restaurants, {kind}", "city": city, "state": state}
    summary = f"{title} in {town} {both}. Guests often mention {hint}."
    return title, dumps({**place, "attributes": attributes}), summary


def _persona_text(schema: SchemaName, taste: Taste, strength: float, dice: Iterator[int]) -> Row:
    """Name, description and rationale; a persona of weak appeal says less of its taste."""
    person = _PERSON[schema]
    if strength >= 0.5:
        trait, other = pick_two(taste["traits"], dice)
        description = f"This {person} {trait}. Above all, this kind of {person} {other}."
        rationale = f"This persona appreciates this item because {pick(taste['reasons'], dice)}."
    else:
        filler, other = pick_two(vocabulary.FILLERS[schema], dice)
        description = f"This {person} {filler}, and {other}."
        rationale = f"This persona has no objection to this item because {pick(vocabulary.EXCUSES, dice)}."
    name = pick(taste["names"], dice)
    return {"Name": name, "Description": description, "Preference_Rationale": rationale}


def _draw_strengths(rng: np.random.Generator, num_tastes: int) -> Floats:
    """Appeal to each taste: one near 1, one to six others lower, the rest 0."""
    num_appeals = draw_weighted(rng, np.array([0, 0, 2, 4, 3, 1, 0.5, 0.3]))
    appeals = 0.15 + 0.6 * rng.random(num_appeals)
    appeals[0] = 0.85 + 0.15 * rng.random()
    strengths = np.zeros(num_tastes)
    strengths[np.argsort(rng.random(num_tastes))[:num_appeals]] = appeals
    return strengths


def draw_weighted(rng: np.random.Generator, weights: Floats) -> int:
    """An index with probability in proportion to its weight."""
    return int(np.searchsorted(np.cumsum(weights), rng.random() * weights.sum(), side="right"))
