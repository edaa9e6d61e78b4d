"""What `personarank explain` shows."""

from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from personarank_dagster.command_line.console import console, resolve
from personarank_dagster.core.errors import ConfigError
from personarank_dagster.definitions import project
from personarank_dagster.defs.ranking.explanations import Explanation, explain

RATIONALE_LENGTH, SUMMARY_LENGTH = 160, 48
# What a score of a learned blend is made of, for people; --json has every signal.
SIGNAL_KINDS = {
    "retriever": ("rank", "candidate_score"),
    "personas": ("best_persona", "two_best_personas", "all_personas", "best_pair", "every_interaction"),
    "popularity": ("popularity",),
}
# Of those that a persona rests on.
SHOWN_REVIEWS = 3


def explain_and_report(partition: str, user_id: str, *, top: int, as_json: bool) -> None:
    """Print a user's list with the reasons."""
    names = resolve((partition,))
    if len(names) != 1:
        raise ConfigError("--partition must be one dataset, got all")
    explanation = explain(project, names[0], user_id, top=top)
    if as_json:
        console.print_json(data=asdict(explanation))
        return
    console.print(_table(names[0], explanation))
    if explanation.note:
        console.print(f"[yellow]{explanation.note}[/]")


def _table(partition: str, explanation: Explanation) -> Table:
    table = Table(
        title=f"{partition} · {escape(explanation.user_id)} · {_blend(explanation.alpha)}",
        title_justify="left",
        box=SIMPLE_HEAD,
        show_lines=True,
    )
    table.add_column("old → new", no_wrap=True)
    table.add_column("item", ratio=2)
    table.add_column("persona, and why", ratio=4)
    table.add_column("because of (share of the persona score)", ratio=4)
    for place in explanation.places:
        table.add_row(_move(place), _item(place), _persona(place), _reasons(place))
    return table


def _blend(alpha: float | None) -> str:
    return "learned blend" if alpha is None else f"alpha {alpha:g}"


def _move(place: dict[str, Any]) -> str:
    old, new = place["candidate_rank"], place["rank"]
    color = "green" if new < old else "red" if new > old else "dim"
    return f"[{color}]{old} → {new}[/]"


def _item(place: dict[str, Any]) -> str:
    item = f"{escape(place['item_id'])}\n[dim]{_cut(place['item_summary'], SUMMARY_LENGTH)}[/]"
    return f"{item}\n{_signals(place)}" if "signals" in place else item


def _signals(place: dict[str, Any]) -> str:
    """The score of a learned blend, and what its signals add to it, those of one kind together."""
    parts = place["signals"]
    told = {kind: sum(parts[name] for name in names) for kind, names in SIGNAL_KINDS.items()}
    return f"score {place['score']:+.2f}: " + ", ".join(f"{kind} {part:+.2f}" for kind, part in told.items())


def _persona(place: dict[str, Any]) -> str:
    if place["unique_persona_id"] is None:
        return "[dim]none: ranked by the retriever's score alone[/]"
    name, why = _cut(place["persona"], RATIONALE_LENGTH), _cut(place["rationale"], RATIONALE_LENGTH)
    rests = f"\n[dim]rests on {escape(_listed(place['evidence']))}[/]" if place["evidence"] else ""
    return f"[bold]{name}[/] ({place['persona_score']:.2f})\n{why}{rests}"


def _listed(review_ids: list[str]) -> str:
    more = len(review_ids) - SHOWN_REVIEWS
    return ", ".join(review_ids[:SHOWN_REVIEWS]) + (f" and {more} more" if more > 0 else "")


def _reasons(place: dict[str, Any]) -> str:
    return "\n".join(_reason(part, place["persona_score"]) for part in place["interactions"])


def _reason(part: dict[str, Any], persona_score: float) -> str:
    share = f"{part['contribution'] / persona_score:.0%} " if persona_score > 0 else ""
    rating = f" ({part['rating']:g}★)" if part.get("rating") is not None else ""
    return f"{share}{escape(part['item_id'])}{rating} [dim]{_cut(part.get('item_summary'), SUMMARY_LENGTH)}[/]"


def _cut(text: str | None, length: int) -> str:
    """One line of a text, cut at a word."""
    line = " ".join((text or "").split())
    return escape(line if len(line) <= length else line[:length].rsplit(" ", 1)[0] + " …")
