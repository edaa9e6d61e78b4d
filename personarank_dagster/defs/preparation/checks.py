"""Checks of the preparation: that nothing held out was shown to a model, and what its answers are worth."""

from collections.abc import Callable
from functools import partial

import dagster as dg
import polars as pl

from personarank_dagster.defs.platform.declarations import Check, Found
from personarank_dagster.defs.platform.published_checks import Published
from personarank_dagster.defs.preparation import findings
from personarank_dagster.defs.preparation.questions import SOURCES, stage_questions
from personarank_dagster.preparation.questions import Question
from personarank_dagster.preparation.reviews.evidence import num_held_out
from personarank_dagster.preparation.reviews.split import split_of_table
from personarank_dagster.preparation.stage_runs import prepare_config


def parts_share_no_interaction(published: Published) -> Found:
    """No item that is held out of a user is among those that the user's training part has."""
    return findings.apart(_table(published, "split"))


def no_source_is_held_out(published: Published, stage: str) -> Found:
    """No review that a request was made from is held out."""
    held_out = {*split_of_table(_table(published, "split")).held_out.table["review_id"]}
    asked = _questions(published, stage)
    bad = sum(not held_out.isdisjoint(question.sources) for question in asked)
    return Found(bad == 0, {"requests_with_held_out_sources": bad, "requests": len(asked)})


def no_request_holds_held_out_text(published: Published, stage: str) -> Found:
    """No request holds a text of more than 40 characters that is held out, whoever wrote it."""
    held_out = split_of_table(_table(published, "split")).held_out
    asked = _questions(published, stage)
    bad = num_held_out(asked, held_out, mask=prepare_config(published.config).mask_contacts)
    return Found(bad == 0, {"requests_with_held_out_text": bad, "requests": len(asked)})


def rows_have_answers(published: Published, stage: str) -> Found:
    """No row was set aside since the model had no good answer."""
    details = published.version(stage).manifest.details
    bad, total = details.get("set_aside", 0), details.get("questions", 0)
    return Found(bad == 0, {"set_aside": bad, "share": bad / max(total, 1), "total": total})


def items_have_summaries(published: Published) -> Found:
    """Items that were reviewed have a summary."""
    return _items_covered(published, "item_summaries")


def reviews_have_aspects(published: Published) -> Found:
    """Training reviews with a text have at least one aspect."""
    aspects = _table(published, "review_aspects")
    said = aspects.filter(pl.any_horizontal(pl.exclude("review_id").is_not_null()))
    written = _training(published).filter(pl.col("text").is_not_null())
    return findings.covered(said, "review_id", written["review_id"], published.config.data.min_coverage)


def items_have_personas(published: Published) -> Found:
    """Items that were reviewed have personas."""
    return _items_covered(published, "item_personas")


def personas_differ_within_their_item(published: Published) -> Found:
    """No two personas of an item are described in nearly the same words."""
    return findings.different(_table(published, "item_personas"))


def rationales_are_grounded(published: Published) -> Found:
    """Rationales share more words with what reviewers said of their item than with what they said of another one."""
    tables = (_table(published, name) for name in ("item_personas", "review_aspects", "split"))
    return findings.grounded(*tables)


def negative_reviews_are_evidence(published: Published) -> Found:
    """Some personas rest on reviews with low ratings, where there are any."""
    return findings.negative_covered(_table(published, "item_personas"), _table(published, "split"))


def users_have_selections(published: Published) -> Found:
    """Users with something before their training target have a selection."""
    asked = pl.Series([question.row for question in _questions(published, "persona_selections")], dtype=pl.String())
    selections = _table(published, "persona_selections")
    return findings.covered(selections, "user_id", asked, published.config.data.min_coverage)


def selections_do_not_follow_the_order(published: Published) -> Found:
    """The persona that was shown first is chosen no more and no less often than by chance."""
    return findings.unbiased(_table(published, "persona_selections"))


def _table(published: Published, asset: str) -> pl.DataFrame:
    return published.table(asset).collect()


def _training(published: Published) -> pl.DataFrame:
    return split_of_table(_table(published, "split")).training.table


def _questions(published: Published, stage: str) -> list[Question]:
    tables = {name: _table(published, name) for name in SOURCES[stage]}
    return stage_questions(stage, published.config, tables)


def _items_covered(published: Published, asset: str) -> Found:
    reviewed = _training(published)["item_id"].unique()
    return findings.covered(_table(published, asset), "item_id", reviewed, published.config.data.min_coverage)


def _check(asset: str, find: Callable[..., Found], *, blocking: bool = False, name: str = "") -> Check:
    """A check of an asset, which warns unless it is blocking."""
    return Check(
        name=name or find.__name__,
        asset=asset,
        find=find,
        description=(find.__doc__ or "").strip(),
        needs=SOURCES.get(asset, ()),
        severity=dg.AssetCheckSeverity.ERROR if blocking else dg.AssetCheckSeverity.WARN,
        blocking=blocking,
    )


def _of_stage(stage: str, find: Callable[..., Found], *, blocking: bool = False) -> Check:
    bound = partial(find, stage=stage)
    bound.__doc__ = find.__doc__
    return _check(stage, bound, blocking=blocking, name=find.__name__)


OF_THEIR_OWN = {
    "item_summaries": (items_have_summaries,),
    "review_aspects": (reviews_have_aspects,),
    "item_personas": (
        items_have_personas,
        personas_differ_within_their_item,
        rationales_are_grounded,
        negative_reviews_are_evidence,
    ),
    "persona_selections": (users_have_selections, selections_do_not_follow_the_order),
}


def checks_of(asset: str) -> tuple[Check, ...]:
    """All checks of an asset of the preparation."""
    if asset == "split":
        return (_check("split", parts_share_no_interaction, blocking=True),)
    return (
        _of_stage(asset, no_source_is_held_out, blocking=True),
        _of_stage(asset, no_request_holds_held_out_text, blocking=True),
        _of_stage(asset, rows_have_answers),
        *(_check(asset, find) for find in OF_THEIR_OWN[asset]),
    )
