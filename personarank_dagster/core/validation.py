"""Checks of the data: each takes tables and says whether its name is true, with the numbers behind it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import polars as pl

from personarank_dagster.core.aspects import ASPECTS_BY_SCHEMA, aspect_columns
from personarank_dagster.core.texts import PERSONA_FIELDS, TextTemplate

# Reviews older than the web shops that hold them are mistaken timestamps.
FIRST_PLAUSIBLE_TIME = datetime(1995, 1, 1, tzinfo=UTC)

# Means of thousands of ratings move by hundredths; a quarter of a point is another population.
MAX_RATING_DRIFT = 0.25

# The judge's own words at the end of its reasoning: `Selection: 3. <item>_P3`, with or without bold face.
JUDGED_ID = r"Selection:\W*(?:\d+\.\s*)?(?:\S+_)?(P\d+)"


ALL_ASPECT_COLUMNS = {column for schema in ASPECTS_BY_SCHEMA for column in aspect_columns(schema)}

# Share of a list's spread that a gap between two scores has where these two decide min and max alone.
OUTLIER_GAP = 0.999
OUTLIER_REMEDY = "leave masked items out of the lists; of probabilities give the logits"

# Sums of 2**64 of the largest doubles, each divided by this, are still doubles.
SUM_UNIT = 2.0**64

# A sample of texts whose share of truncated ones is known to about one percent.
SAMPLED_TEXTS = 2_000

# Up to this share, texts that are cut at `max_len` are the long tail that every model cuts.
MAX_TRUNCATED = 0.05


@dataclass(frozen=True)
class Finding:
    """What a check found: `bad` of `total` break the rule. `bad` is None where nothing is right or wrong about it.

    The note says why nothing was found where something could not be looked at, or what to do about what was found.
    """

    bad: int | None
    total: int
    numbers: Mapping[str, float | int] = field(default_factory=dict)
    note: str = ""

    @property
    def share(self) -> float:
        """Share of rows that break the rule; 0 where there are none."""
        return (self.bad or 0) / self.total if self.total else 0.0


Tables = Mapping[str, pl.LazyFrame]

# Key of the table of the version before, for checks of drift.
PREVIOUS = "previous version"

# Numbers of tokens of texts, special tokens included, nothing cut off.
CountTokens = Callable[[Sequence[str]], Sequence[int]]


@dataclass(frozen=True)
class Limits:
    """What a dataset configures for its checks; `count_tokens` is None where the tokenizer is not at hand."""

    min_coverage: float
    max_drift: float
    max_len: int
    template: TextTemplate
    count_tokens: CountTokens | None = None


def ids_are_non_empty(table: pl.LazyFrame, columns: Sequence[str]) -> Finding:
    """No id is null, blank or wrapped in white space."""
    wrong = pl.any_horizontal(
        pl.col(column).is_null() | (pl.col(column).str.strip_chars() != pl.col(column)) | (pl.col(column) == "")
        for column in columns
    )
    return _count(table, wrong)


def ratings_lie_within_1_and_5(histories: pl.LazyFrame) -> Finding:
    """Ratings are from 1 to 5; the mean shows a drift that the bounds do not."""
    return _count(histories, ~pl.col("rating").is_between(1, 5), mean_rating=_mean("rating"))


def timestamps_are_plausible(histories: pl.LazyFrame) -> Finding:
    """No interaction is older than 1995 or in the future."""
    latest = datetime.now(UTC) + timedelta(days=1)
    return _count(histories, ~pl.col("timestamp").is_between(FIRST_PLAUSIBLE_TIME, latest))


def histories_are_chronological(histories: pl.LazyFrame) -> Finding:
    """Within a user, time never goes back from one position to the next."""
    earlier = pl.col("timestamp") < pl.col("timestamp").shift(1).over("user_id", order_by="position")
    return _count(histories, earlier.fill_null(False))


def items_have_one_to_seven_personas(personas: pl.LazyFrame) -> Finding:
    """An item has at most seven personas (one without any has no row)."""
    counts = personas.group_by("item_id").len("count")
    return _count(counts, ~pl.col("count").is_between(1, 7), mean_personas=pl.col("count").mean())


def persona_texts_are_non_empty(personas: pl.LazyFrame) -> Finding:
    """Name, description and rationale of every persona say something."""
    columns = [column for _, column in PERSONA_FIELDS.values() if column != "item_summary"]
    return _count(personas, pl.any_horizontal(pl.col(column).str.strip_chars() == "" for column in columns))


def persona_ids_are_item_and_id(personas: pl.LazyFrame) -> Finding:
    """`unique_persona_id` is `<item_id>_<ID>`."""
    return _count(personas, pl.col("unique_persona_id") != pl.format("{}_{}", "item_id", "persona_id"))


def selections_resolve_to_a_persona(selections: pl.LazyFrame) -> Finding:
    """Every selection names a persona of its target; the others are not trained on."""
    return _count(selections, ~pl.col("resolved"))


def selected_names_equal_the_catalogue(selections: pl.LazyFrame, personas: pl.LazyFrame) -> Finding:
    """The name that a selection gives its persona is the persona's name."""
    joined = selections.join(personas.select("unique_persona_id", "name"), on="unique_persona_id", how="left")
    return _count(joined, (pl.col("selected_persona_name") != pl.col("name")).fill_null(False))


def reasoning_agrees_with_the_selection(selections: pl.LazyFrame) -> Finding:
    """Where the judge's text ends in `Selection: … P3`, that is the persona of the row."""
    judged = pl.col("selection_reasoning").str.extract_all(JUDGED_ID).list.last().str.extract(JUDGED_ID)
    said = selections.with_columns(judged=judged).filter(pl.col("judged").is_not_null())
    found = _count(said, pl.col("unique_persona_id") != pl.format("{}_{}", "target_item_id", "judged"))
    return found if found.total else replace(found, note="no reasoning ends in the persona that it selects")


def selected_users_have_histories(selections: pl.LazyFrame, histories: pl.LazyFrame) -> Finding:
    """Every user with a selection has a history, or the selection cannot be trained on."""
    users = selections.select("user_id").unique()
    return _absent(users, histories.select("user_id").unique())


def candidate_lists_are_sorted(candidates: pl.LazyFrame) -> Finding:
    """Scores do not rise from one place of a list to the next."""
    score = pl.col("candidate_score")
    rises = score > score.shift(1).over("user_id", order_by="candidate_rank")
    return _count(candidates, rises.fill_null(False))


def candidate_scores_have_no_outlier(candidates: pl.LazyFrame) -> Finding:
    """No score, such as a mask of -1e9, is so far from the others of its list that min-max makes these equal.

    Counts lists in which the gap between two neighbouring scores is all but a thousandth of the spread, and there are
    different scores on one side of it; says which list is the first, and where its gap lies.
    """
    # Halves, so that no difference overflows.
    half = (pl.col("candidate_score") / 2).sort()
    gap, above = half.diff().max(), half.diff().arg_max()
    lists = candidates.group_by("user_id", maintain_order=True).agg(
        outlying=(gap > OUTLIER_GAP * (half.last() - half.first())) & (half.n_unique() > 2),
        gap_from=2 * half.get(above - 1),
        gap_to=2 * half.get(above),
    )
    counted = lists.with_row_index("first_list", offset=1).drop("user_id").collect()
    found = counted.filter(pl.col("outlying").fill_null(False)).drop("outlying")
    first = found.row(0, named=True) if found.height else {}
    return Finding(found.height, counted.height, first, note=OUTLIER_REMEDY if first else "")


def candidates_are_new_to_their_user(candidates: pl.LazyFrame, histories: pl.LazyFrame) -> Finding:
    """No candidate is an item of the user's history."""
    seen = candidates.join(histories, on=["user_id", "item_id"], how="semi")
    return Finding(_height(seen), _height(candidates))


def candidates_have_personas(candidates: pl.LazyFrame, personas: pl.LazyFrame) -> Finding:
    """Candidates are items with personas; the others are ranked by the candidate score alone."""
    return _absent(candidates.select("item_id"), personas.select("item_id").unique())


def candidate_users_have_histories(candidates: pl.LazyFrame, histories: pl.LazyFrame) -> Finding:
    """Users with a list have a history; the others keep the candidate order."""
    return _absent(candidates.select("user_id").unique(), histories.select("user_id").unique())


def ground_truth_has_a_ceiling(ground_truth: pl.LazyFrame, candidates: pl.LazyFrame) -> Finding:
    """How many users have a ground-truth item in their list: no reranking can hit more."""
    users = _height(ground_truth.select("user_id").unique())
    listed = ground_truth.join(candidates, on=["user_id", "item_id"], how="semi").select("user_id").unique()
    found = _height(listed)
    ceiling = found / users if users else 0.0
    return Finding(None, users, {"users_with_ground_truth_in_list": found, "ceiling": ceiling})


def rows_are_like_the_previous_version(table: pl.LazyFrame, previous: pl.LazyFrame) -> Finding:
    """About as many rows as the version before; a sudden change of size is often a broken export."""
    rows, before = _height(table), _height(previous)
    return Finding(abs(rows - before), before, {"rows": rows, "previous_rows": before})


def mean_rating_is_like_the_previous_version(histories: pl.LazyFrame, previous: pl.LazyFrame) -> Finding:
    """The mean rating moved by no more than a quarter of a point."""
    now, before = (table.select(_mean("rating")).collect().item() for table in (histories, previous))
    if now is None or before is None:
        return Finding(None, 0, note="no ratings")
    moved = abs(now - before) > MAX_RATING_DRIFT
    return Finding(int(moved), 1, {"mean_rating": now, "previous_mean_rating": before})


def interactions_have_aspects(histories: pl.LazyFrame) -> Finding:
    """Interactions say something of their aspects; where none does, `schema` in data.yaml may be the wrong one."""
    aspects = [name for name in histories.collect_schema() if name in ALL_ASPECT_COLUMNS]
    return _count(histories, pl.all_horizontal(pl.col(name).is_null() for name in aspects))


def interactions_do_not_repeat(histories: pl.LazyFrame) -> Finding:
    """No user has the same item at the same time twice."""
    return _repeats(histories.select("user_id", "item_id", "timestamp"))


def selections_do_not_repeat(selections: pl.LazyFrame) -> Finding:
    """No user has two selections for one target; both would be trained on."""
    return _repeats(selections.select("user_id", "target_item_id"))


def interaction_texts_fit_max_len(histories: pl.LazyFrame, limits: Limits) -> Finding:
    """Texts of interactions are no longer than `max_len` tokens; what lies beyond is cut off. From a sample."""
    return _truncated(histories, limits.template.interaction_texts, limits)


def persona_texts_fit_max_len(personas: pl.LazyFrame, limits: Limits) -> Finding:
    """Texts of personas are no longer than `max_len` tokens; what lies beyond is cut off. From a sample."""
    return _truncated(personas, limits.template.persona_texts, limits)


def _truncated(rows: pl.LazyFrame, texts_of: Callable[[pl.DataFrame], pl.Series], limits: Limits) -> Finding:
    if limits.count_tokens is None:
        return Finding(None, 0, note="the tokenizer is not on this machine")
    every = max(1, _height(rows) // SAMPLED_TEXTS)
    texts = texts_of(rows.gather_every(every).collect(engine="streaming"))
    tokens = pl.Series(limits.count_tokens(texts.to_list()), dtype=pl.UInt32)
    longest = tokens.max() if len(tokens) else 0
    return Finding(
        int((tokens > limits.max_len).sum()), len(tokens), {"longest": _whole(longest), "max_len": limits.max_len}
    )


def _mean(column: str) -> pl.Expr:
    """Mean of any doubles: in a unit that is a power of two, so that the same bits come out, no sum overflows."""
    return (pl.col(column) / SUM_UNIT).mean() * SUM_UNIT


def _count(table: pl.LazyFrame, wrong: pl.Expr, **numbers: pl.Expr) -> Finding:
    """How many rows are wrong; only the columns that this needs are read."""
    bad, total, *values = table.select(wrong.sum().alias("bad"), pl.len().alias("total"), **numbers).collect().row(0)
    found = {name: value for name, value in zip(numbers, values, strict=True) if value is not None}
    return Finding(bad, total, found)


def _absent(rows: pl.LazyFrame, known: pl.LazyFrame) -> Finding:
    columns = rows.collect_schema().names()
    return Finding(_height(rows.join(known, on=columns, how="anti")), _height(rows))


def _repeats(keys: pl.LazyFrame) -> Finding:
    total = _height(keys)
    return Finding(total - _height(keys.unique()), total)


def _height(table: pl.LazyFrame) -> int:
    return _whole(table.select(pl.len()).collect().item())


def _whole(value: object) -> int:
    return int(str(value))
