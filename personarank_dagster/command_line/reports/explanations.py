"""What `personarank explain` shows: a block an item, and all the words for a place."""

from dataclasses import asdict
from typing import Any

from rich.markup import escape

from personarank_dagster.command_line.console import resolve
from personarank_dagster.command_line.terminal import console, screen_width
from personarank_dagster.core.errors import UsageError
from personarank_dagster.definitions import project
from personarank_dagster.defs.ranking.explanations import Explanation, example_users, explain

# What a score of a learned blend is made of, for people; --json has every signal.
SIGNAL_KINDS = {
    "retriever": ("rank", "candidate_score"),
    "personas": ("best_persona", "two_best_personas", "all_personas", "best_pair", "every_interaction"),
    "popularity": ("popularity",),
}
# Of those that a persona rests on.
SHOWN_REVIEWS = 3
INDENT = " " * 10
LEGEND = (
    "In brackets the similarity of the user's profile and the persona, from -1 to 1; below, what the interactions "
    "that speak most for it add to it. The others add the rest, or take away."
)
NO_PERSONAS = "no personas: ranked by the retriever's score alone"
NO_PERSONAS_UP = (
    "no personas: ranked by the retriever's score alone, which counts whole here; of an item with personas it is "
    "blended with a similarity, which took those that it passed down"
)
NO_PERSONAS_LEARNED = "no personas: the retriever and popularity alone speak for it"


def explain_and_report(partition: str, user_id: str | None, *, top: int, as_json: bool) -> None:
    """Print a user's list with the reasons; without a user those of one who gained and of one who lost."""
    names = resolve((partition,))
    if len(names) != 1:
        raise UsageError("--partition must be one dataset, got all")
    users = {user_id: ""} if user_id else example_users(project, names[0])
    found = {user: explain(project, names[0], user, top=top) for user in users}
    if as_json:
        told = [asdict(one) for one in found.values()]
        console.print_json(data=told[0] if user_id else told)
        return
    for user, explanation in found.items():
        _show(names[0], explanation, users[user])


def _show(partition: str, explanation: Explanation, example_of: str) -> None:
    why = f" · {example_of}" if example_of else ""
    console.print(f"[bold]{partition} · {escape(explanation.user_id)}[/] · {_blend(explanation.alpha)}{escape(why)}")
    for place in explanation.places:
        for line in _block(place):
            console.print(line)
    if explanation.note:
        console.print(f"[yellow]{explanation.note}[/]")
    elif any(place["interactions"] for place in explanation.places):
        console.print(f"[dim]{LEGEND}[/]")
    console.print()


def _blend(alpha: float | None) -> str:
    return "learned blend" if alpha is None else f"alpha {alpha:g}"


def _block(place: dict[str, Any]) -> list[str]:
    """The lines of a place: the item, its signals if the blend is learned, its persona, and the interactions."""
    lines = [_item(place)]
    if "signals" in place:
        lines.append(INDENT + _signals(place))
    lines.append(_persona(place))
    if place["evidence"]:
        lines.append(f"{INDENT}  [dim]rests on {escape(_listed(place['evidence']))}[/]")
    return lines + [_reason(part) for part in place["interactions"]]


def _item(place: dict[str, Any]) -> str:
    old, new = place["candidate_rank"], place["rank"]
    color = "green" if new < old else "red" if new > old else "dim"
    item = place["item_id"]
    return f"[{color}]{f'{old} → {new}':>8}[/]  [bold]{escape(item)}[/] {_cut(place['item_summary'], 11 + len(item))}"


def _signals(place: dict[str, Any]) -> str:
    """The score of a learned blend, and what its signals add to it, those of one kind together."""
    parts = place["signals"]
    told = {kind: sum(parts[name] for name in names) for kind, names in SIGNAL_KINDS.items()}
    return f"score {place['score']:+.2f}: " + ", ".join(f"{kind} {part:+.2f}" for kind, part in told.items())


def _persona(place: dict[str, Any]) -> str:
    if place["unique_persona_id"] is None:
        return f"{INDENT}[dim]{_without_personas(place)}[/]"
    name, score = place["persona"], f"({place['persona_score']:.2f})"
    return f"{INDENT}for [bold]{escape(name)}[/] {score}: {_cut(place['rationale'], len(INDENT + name + score) + 7)}"


def _listed(review_ids: list[str]) -> str:
    more = len(review_ids) - SHOWN_REVIEWS
    return ", ".join(review_ids[:SHOWN_REVIEWS]) + (f" and {more} more" if more > 0 else "")


def _without_personas(place: dict[str, Any]) -> str:
    if "signals" in place:
        return NO_PERSONAS_LEARNED
    return NO_PERSONAS_UP if place["rank"] < place["candidate_rank"] else NO_PERSONAS


def _reason(part: dict[str, Any]) -> str:
    rating = f" {part['rating']:g}★" if part.get("rating") is not None else ""
    head = f"{INDENT}  {part['contribution']:+.2f} "
    taken = len(head) + len(part["item_id"]) + len(rating) + 1
    return f"{head}{escape(part['item_id'])}{rating} [dim]{_cut(part.get('item_summary'), taken)}[/]"


def _cut(text: str | None, taken: int) -> str:
    """A text in what a line has left, cut at a word; in a pipe whole."""
    line, length = " ".join((text or "").split()), screen_width() - taken - 2
    if len(line) <= length:
        return escape(line)
    return escape(line[: max(length, 0)].rsplit(" ", 1)[0] + " …")
