"""What is held out of raw reviews, and what each user's selection is made for; before anything else sees a review."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime

import polars as pl

from personarank_dagster.core import schemas
from personarank_dagster.preparation.reviews.contacts import without_contacts

# Shorter texts ("Great!") are written by many.
MIN_LEAKING_LENGTH = 40

# So much of a text tells it from all others.
FINGERPRINT_LENGTH = 200


@dataclass(frozen=True)
class TrainingReviews:
    """Reviews that may be shown to a model: `split_reviews` alone makes them, without anything held out."""

    table: pl.DataFrame

    def of(self, items: Collection[str], users: Collection[str]) -> "TrainingReviews":
        """Those of these items or by these users."""
        wanted = pl.col("item_id").is_in(list(items)) | pl.col("user_id").is_in(list(users))
        return TrainingReviews(self.table.filter(wanted))


@dataclass(frozen=True)
class HeldOutReviews:
    """Reviews that no model may see."""

    table: pl.DataFrame

    def fingerprints(self, *, mask: bool) -> list[str]:
        """Beginnings of the texts that are long enough to be recognised, each once, in order; without contacts if so.

        What is left of a text that was little but a link is in many others.
        """
        texts = _masked(self.table["text"].drop_nulls()) if mask else self.table["text"].drop_nulls()
        long = texts.filter(texts.str.len_chars() > MIN_LEAKING_LENGTH)
        return long.str.head(FINGERPRINT_LENGTH).unique().sort().to_list()


@dataclass(frozen=True)
class Split:
    """Raw reviews in parts: every one is in `training`, in `held_out`, or left out and counted.

    `ground_truth` has the held-out (user_id, item_id), `targets` the (user_id, item_id) that selections are made for:
    the user's last liked interaction of the training part. `blanked` counts training reviews that hold the text of a
    held-out one: they stay as interactions, without text.
    """

    training: TrainingReviews
    held_out: HeldOutReviews
    ground_truth: pl.DataFrame
    targets: pl.DataFrame
    left_out: dict[str, int] = field(default_factory=dict)
    blanked: int = 0

    @property
    def table(self) -> pl.DataFrame:
        """Training and held-out reviews with their roles; `split_of_table` reads it back, but for the counts."""
        parts = (
            (self.training.table, "training", self.targets, "target"),
            (self.held_out.table, "held out", self.ground_truth, "ground truth"),
        )
        return pl.concat(_with_roles(*part) for part in parts)


def _with_roles(reviews: pl.DataFrame, part: str, pairs: pl.DataFrame, role: str) -> pl.DataFrame:
    roles = pairs.unique().with_columns(role=pl.lit(role))
    parted = reviews.with_columns(part=pl.lit(part))
    return parted.join(roles, on=["user_id", "item_id"], how="left", maintain_order="left").select(*schemas.SPLIT)


def split_of_table(table: pl.DataFrame) -> Split:
    """The split that a table of it says, without what was counted."""
    training, held_out = (table.filter(pl.col("part") == part) for part in ("training", "held out"))
    truth = held_out.filter(pl.col("role").is_not_null()).group_by("user_id", "item_id")
    ordered = truth.agg(moment=pl.col("timestamp").min()).sort("user_id", "moment", "item_id")
    targets = training.filter(pl.col("role").is_not_null()).select("user_id", "item_id")
    return Split(
        training=TrainingReviews(training.select(*schemas.REVIEWS)),
        held_out=HeldOutReviews(held_out.select(*schemas.REVIEWS)),
        ground_truth=ordered.select("user_id", "item_id"),
        targets=targets.unique(maintain_order=True),
    )


def split_reviews(
    reviews: pl.DataFrame, *, min_rating: float, as_of: datetime | None = None, k_core: int = 0
) -> Split:
    """Split reviews, which are ordered by time, per user or at one moment.

    Per user, the last item rated at least `min_rating` is held out where the user liked another one before. With
    `as_of` every review from that moment on is held out. All reviews of a held-out item by its user are held out
    too, and reviews later than the held-out one are left out, since they were written in its knowledge.
    """
    core = _k_core(reviews, k_core)
    truth = _truth_from(core, min_rating, as_of) if as_of else _last_liked(core, min_rating)
    moments = core.join(truth, on=["user_id", "item_id"], how="left", maintain_order="left")
    held = pl.col("moment").is_not_null()
    if as_of:
        held = held | (pl.col("timestamp") >= as_of)
        training, later = moments.filter(~held), moments.clear()
    else:
        until = truth.select("user_id", until="moment")
        moments = moments.join(until, on="user_id", how="left", maintain_order="left")
        after = (pl.col("timestamp") >= pl.col("until")).fill_null(False) & ~held
        training, later = moments.filter(~held & ~after), moments.filter(after)
    held_out = HeldOutReviews(moments.filter(held).select(reviews.columns))
    return _parts(
        training.select(reviews.columns),
        held_out,
        truth,
        min_rating=min_rating,
        left_out={"outside the k-core": reviews.height - core.height, "later than the held out": later.height},
    )


def _parts(
    training: pl.DataFrame,
    held_out: HeldOutReviews,
    truth: pl.DataFrame,
    *,
    min_rating: float,
    left_out: dict[str, int],
) -> Split:
    leaking = _leaking(training, held_out)
    clean = training.with_columns(
        pl.when(leaking).then(None).otherwise(name).alias(name) for name in ("title", "text")
    )
    liked = clean.filter(pl.col("rating") >= min_rating)
    return Split(
        training=TrainingReviews(clean),
        held_out=held_out,
        ground_truth=truth.select("user_id", "item_id"),
        targets=liked.group_by("user_id", maintain_order=True).last().select("user_id", "item_id"),
        left_out={reason: count for reason, count in left_out.items() if count},
        blanked=training.filter(leaking).height,
    )


def _leaking(training: pl.DataFrame, held_out: HeldOutReviews) -> pl.Series:
    """Which reviews hold a held-out text, as it is or but for its contacts: either may be what is sent."""
    texts = training.select(text=pl.concat_str("title", "text", separator="\n", ignore_nulls=True))["text"]
    as_given = _holds_any(texts, held_out.fingerprints(mask=False))
    return as_given | _holds_any(_masked(texts), held_out.fingerprints(mask=True))


def _holds_any(texts: pl.Series, fingerprints: list[str]) -> pl.Series:
    if not fingerprints:
        return pl.repeat(False, len(texts), eager=True)
    return texts.str.contains_any(fingerprints)


def _masked(texts: pl.Series) -> pl.Series:
    return pl.Series("text", [text and without_contacts(text) for text in texts], dtype=pl.String)


def _last_liked(reviews: pl.DataFrame, min_rating: float) -> pl.DataFrame:
    """Of each user with two liked items or more, the last one and when it was liked first."""
    liked = reviews.filter(pl.col("rating") >= min_rating)
    last = liked.group_by("user_id", maintain_order=True).last().select("user_id", "item_id")
    moments = (
        reviews.join(last, on=["user_id", "item_id"])
        .group_by("user_id", "item_id")
        .agg(moment=pl.col("timestamp").min())
    )
    before = liked.join(moments, on="user_id", suffix="_held").filter(
        (pl.col("item_id") != pl.col("item_id_held")) & (pl.col("timestamp") < pl.col("moment"))
    )
    return moments.join(before.select("user_id").unique(), on="user_id", how="semi").sort("user_id")


def _truth_from(reviews: pl.DataFrame, min_rating: float, as_of: datetime) -> pl.DataFrame:
    """Items that users with a liked item before `as_of` liked from then on, and had not reviewed before."""
    late = pl.col("timestamp") >= as_of
    liked = pl.col("rating") >= min_rating
    new = reviews.filter(late & liked).join(reviews.filter(~late), on=["user_id", "item_id"], how="anti")
    known = new.join(reviews.filter(~late & liked), on="user_id", how="semi")
    return (
        known.group_by("user_id", "item_id")
        .agg(moment=pl.col("timestamp").min())
        .sort("user_id", "moment", "item_id")
    )


def _k_core(reviews: pl.DataFrame, k: int) -> pl.DataFrame:
    """Reviews whose user and item have at least k of them, after as many rounds as that needs."""
    while k:
        kept = reviews.filter((pl.len().over("user_id") >= k) & (pl.len().over("item_id") >= k))
        if kept.height == reviews.height:
            break
        reviews = kept
    return reviews
