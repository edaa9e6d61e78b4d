"""What a few users see: their lists before and after, for a person who looks at the asset in the UI."""

import shlex
from collections.abc import Mapping

import polars as pl

from personarank_dagster.defs.platform.figures import cell
from personarank_dagster.storage.tables import Table

# Places that movement is counted over, and those that an example shows.
MOVED_PLACES, SHOWN_PLACES = 10, 5


def example_users(reranked: Table) -> dict[str, str]:
    """Users by what they are examples of, first the one whose first places moved most; fewer where they coincide."""
    moved = (pl.col("rank").cast(pl.Int64) - pl.col("candidate_rank").cast(pl.Int64)).abs().sum()
    first = reranked.lazy().filter(pl.col("rank") <= MOVED_PLACES)
    by_user = first.group_by("user_id").agg(moved=moved).sort("moved", "user_id", descending=[True, False])
    users = by_user.collect(engine="streaming")["user_id"].to_list()
    if not users:
        return {}
    chosen = {users[0]: "moved most", users[len(users) // 2]: "in the middle", users[-1]: "moved least"}
    return {what: user for user, what in chosen.items()}


def lists_of(reranked: Table, users: Mapping[str, str]) -> pl.DataFrame:
    """The whole lists of these users."""
    own = reranked.lazy().filter(pl.col("user_id").is_in([*users.values()]))
    columns = ("user_id", "rank", "candidate_rank", "item_id", "unique_persona_id")
    return own.select(columns).sort("user_id", "rank").collect(engine="streaming")


def example_lists(partition: str, reranked: Table, personas: pl.LazyFrame) -> str | None:
    """The first places of a few users before and after, in Markdown, and the command that explains each."""
    users = example_users(reranked)
    lists = lists_of(reranked, users)
    named = personas.filter(pl.col("unique_persona_id").is_in(lists["unique_persona_id"].drop_nulls().implode()))
    told = lists.join(named.select("unique_persona_id", "name").collect(), on="unique_persona_id", how="left")
    parts = [
        _example(f"User {number}: {what}", partition, user, told.filter(pl.col("user_id") == user))
        for number, (what, user) in enumerate(users.items(), start=1)
    ]
    return "\n\n".join(parts) or None


def _example(title: str, partition: str, user: str, own: pl.DataFrame) -> str:
    before = dict(own.select("candidate_rank", "item_id").rows())
    rows = [
        f"| {place['rank']} | {cell(before[place['rank']])} | {cell(place['item_id'])} | {place['candidate_rank']} "
        f"| {cell(place['name'] or 'none: by the score of the retriever alone')} |"
        for place in own.head(SHOWN_PLACES).iter_rows(named=True)
    ]
    head = "| place | before | after | was | persona |\n|---|---|---|---|---|"
    command = f"personarank explain --partition {shlex.quote(partition)} --user {shlex.quote(user)}"
    return "\n".join([f"**{title}**\n", head, *rows, f"\n~~~\n{command}\n~~~"])
