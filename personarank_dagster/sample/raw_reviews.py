"""A generated dataset as reviews and items before anything was prepared, in the form of Amazon Reviews 2023."""

from collections.abc import Iterator
from pathlib import Path

from personarank_dagster.sample.files import new_gzip, write_rows
from personarank_dagster.sample.generator import SampleDataset, SampleUser
from personarank_dagster.sample.items import Row

# Milliseconds between the last interaction of a history and the held-out one.
_LATER = 86_400_000


def write_raw_reviews(folder: Path, *, num_users: int, seed: int) -> list[Path]:
    """Write `reviews.jsonl.gz` and `meta.jsonl.gz`; equal arguments give equal bytes."""
    dataset = SampleDataset("amazon", num_users, seed)
    rows = {"reviews": _reviews(dataset), "meta": _items(dataset)}
    folder.mkdir(parents=True, exist_ok=True)
    for name, its_rows in rows.items():
        with new_gzip(folder / f"{name}.jsonl.gz") as file:
            write_rows(file, its_rows)
    return [folder / f"{name}.jsonl.gz" for name in rows]


def _items(dataset: SampleDataset) -> Iterator[Row]:
    for item in dataset.items:
        row = item.summary_row
        yield {"parent_asin": item.item_id, "title": row["item_title"], "description": [row["item_description"]]}


def _reviews(dataset: SampleDataset) -> Iterator[Row]:
    titles = {item.item_id: item.summary_row["item_title"] for item in dataset.items}
    for user in dataset.users():
        if user.history is not None:
            yield from map(_review, user.history["reviews"])
            yield _last_review(user, user.history["reviews"][-1]["timestamp"] + _LATER, titles)


def _review(interaction: Row) -> Row:
    said = [value for value in interaction["extracted"].values() if value]
    return {
        "user_id": interaction["user_id"],
        "parent_asin": interaction["item_id"],
        "rating": interaction["rating"],
        "timestamp": interaction["timestamp"],
        "title": interaction["review_title"],
        "text": " ".join(f"{value[0].upper()}{value[1:].rstrip('.')}." for value in said),
    }


def _last_review(user: SampleUser, timestamp: int, titles: dict[str, str]) -> Row:
    """The review of the ground truth, which the split finds again and holds out."""
    item_id = user.ground_truth["item_id"]
    text = f"The {titles[item_id]} is what I looked for all along, and nobody is told of it before the test."
    return {
        "user_id": user.ground_truth["user_id"],
        "parent_asin": item_id,
        "rating": 5.0,
        "timestamp": timestamp,
        "title": "The last one",
        "text": text,
    }
