"""What is found in the tables of the preparation: numbers, and whether they are as they should be."""

import math

import polars as pl

from personarank_dagster.core.validation import ALL_ASPECT_COLUMNS
from personarank_dagster.defs.platform.declarations import Found

# Share of common words from which on two descriptions say the same.
SAME_WORDS = 0.8
# Standard deviations by which a share may lie off by chance.
CHANCE = 3.0
# Ratings up to this say what was wrong.
NEGATIVE = 2.0

WORD = r"[\p{L}\p{N}]{4,}"


def apart(split: pl.DataFrame) -> Found:
    """Whether no (user, item) is both trained on and held out."""
    parts = split.group_by("user_id", "item_id").agg(parts=pl.col("part").n_unique())
    both = parts.filter(pl.col("parts") > 1).height
    return Found(both == 0, {"in_both_parts": both, "total": parts.height})


def different(personas: pl.DataFrame) -> Found:
    """Whether no two personas of an item share most of the words of their descriptions."""
    words = personas.select("item_id", "persona_id", words=_words("description"))
    pairs = words.join(words, on="item_id").filter(pl.col("persona_id") < pl.col("persona_id_right"))
    common, every = (
        pl.col("words").list.set_intersection("words_right"),
        pl.col("words").list.set_union("words_right"),
    )
    same = pairs.filter(common.list.len() >= SAME_WORDS * every.list.len().clip(lower_bound=1))
    return Found(same.is_empty(), {"near_duplicates": same.height, "pairs": pairs.height})


def grounded(personas: pl.DataFrame, aspects: pl.DataFrame, split: pl.DataFrame) -> Found:
    """Whether rationales have more words of their own item's aspects than of another item's."""
    told = aspects.join(split.select("review_id", "item_id"), on="review_id")
    texts = pl.concat_str(pl.col(*_aspects_in(told)).fill_null(""), separator=" ")
    said = told.group_by("item_id").agg(said=texts.str.join(" ")).sort("item_id")
    said = said.select("item_id", own=_words("said")).with_columns(other=pl.col("own").shift(1, fill_value=[]))
    said = said.with_columns(other=pl.when(pl.int_range(pl.len()) == 0).then(pl.col("own").last()).otherwise("other"))
    rows = personas.select("item_id", words=_words("preference_rationale")).join(said, on="item_id")
    own, other = (_mean(rows, pl.col("words").list.set_intersection(name).list.len()) for name in ("own", "other"))
    return Found(rows.is_empty() or own > other, {"own_item": own, "another_item": other, "rationales": rows.height})


def covered(rows: pl.DataFrame, key: str, expected: pl.Series, least: float) -> Found:
    """Whether so large a share of the expected keys has a row."""
    there = expected.is_in(rows[key].unique().implode()).sum()
    share = there / len(expected) if len(expected) else 1.0
    return Found(share >= least, {"share": share, "missing": len(expected) - there, "total": len(expected)})


def negative_covered(personas: pl.DataFrame, split: pl.DataFrame) -> Found:
    """Whether reviews with low ratings are among the evidence, where there are any."""
    training = split.filter(pl.col("part") == "training")
    used = personas["review_ids"].explode().unique()
    low = training.filter(pl.col("rating") <= NEGATIVE)
    shares = {
        "share_of_negative_reviews": _share(low, used),
        "share_of_all_reviews": _share(training, used),
    }
    return Found(low.is_empty() or shares["share_of_negative_reviews"] > 0, shares | {"negative": low.height})


def unbiased(selections: pl.DataFrame) -> Found:
    """Whether the persona that was shown first is chosen as often as chance would have it."""
    chances = 1 / selections["offered"].cast(pl.Float64)
    first = int((selections["offered_as"] == "P1").sum())
    expected, deviation = float(chances.sum()), math.sqrt(float((chances * (1 - chances)).sum()))
    numbers = {
        "share_of_first": first / max(selections.height, 1),
        "expected_share": expected / max(selections.height, 1),
        "selections": selections.height,
    }
    return Found(abs(first - expected) <= CHANCE * deviation + 1e-9, numbers)


def _aspects_in(table: pl.DataFrame) -> list[str]:
    return [name for name in table.columns if name in ALL_ASPECT_COLUMNS]


def _words(column: str) -> pl.Expr:
    return pl.col(column).str.to_lowercase().str.extract_all(WORD).list.unique()


def _mean(rows: pl.DataFrame, common: pl.Expr) -> float:
    """Mean share of the words of a row that are common."""
    return float(rows.select((common / pl.col("words").list.len().clip(lower_bound=1)).mean()).item() or 0.0)


def _share(reviews: pl.DataFrame, used: pl.Series) -> float:
    return reviews.filter(pl.col("review_id").is_in(used.implode())).height / max(reviews.height, 1)
