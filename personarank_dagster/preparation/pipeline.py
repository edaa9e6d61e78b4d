"""From raw reviews to the tables of personas: what each stage asks, by what those before it were told."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import polars as pl

from personarank_dagster.configuration.prepare_settings import PrepareConfig
from personarank_dagster.core import schemas
from personarank_dagster.core.aspects import SchemaName
from personarank_dagster.preparation.prompt_files import Prompt, load_prompts
from personarank_dagster.preparation.questions import Question
from personarank_dagster.preparation.reviews.evidence import Limits
from personarank_dagster.preparation.reviews.split import Split, TrainingReviews, split_reviews
from personarank_dagster.preparation.stages import item_personas, item_summaries, persona_selections, review_aspects

# Answers to the questions of one stage, by row; a row without an answer is left out.
Ask = Callable[[str, Sequence[Question]], dict[str, Any]]


@dataclass(frozen=True)
class Scope:
    """Which items and users are prepared: all, or for a cheap first try the most reviewed ones."""

    items: frozenset[str]
    users: frozenset[str]


@dataclass(frozen=True)
class Prepared:
    """The tables of the stages, and the split that they are made of."""

    split: Split
    scope: Scope
    summaries: pl.DataFrame
    aspects: pl.DataFrame
    personas: pl.DataFrame
    selections: pl.DataFrame


def _no_items() -> pl.DataFrame:
    return pl.DataFrame(schema=schemas.ITEMS)


@dataclass(frozen=True)
class Preparation:
    """The questions of one dataset. `items` say what the source knows; personas are made without."""

    config: PrepareConfig
    schema: SchemaName
    split: Split
    scope: Scope
    items: pl.DataFrame = field(default_factory=_no_items)

    @property
    def limits(self) -> Limits:
        """Bounds of a prompt."""
        config = self.config
        return Limits(config.context_tokens, config.max_tokens, config.mask_contacts)

    @property
    def reviews_of_items(self) -> TrainingReviews:
        """Training reviews of the items."""
        return self.split.training.of(self.scope.items, ())

    def item_summaries(self) -> list[Question]:
        """What is asked of every item first."""
        prompt = self._prompt(item_summaries.STAGE)
        return item_summaries.questions(self.items, self.reviews_of_items, prompt, self.limits)

    def review_aspects(self) -> list[Question]:
        """What is asked of every training review of the items or by the users."""
        reviews = self.split.training.of(self.scope.items, self.scope.users)
        return review_aspects.questions(
            self.items, reviews, self.schema, self._prompt(review_aspects.STAGE), self.limits
        )

    def item_personas(self, summaries: pl.DataFrame, aspects: pl.DataFrame) -> list[Question]:
        """What is asked of every item that has a summary."""
        return item_personas.questions(
            summaries,
            aspects,
            self.reviews_of_items,
            self.schema,
            self._prompt(item_personas.STAGE),
            self.limits,
            least=self.config.min_personas,
            most=self.config.max_personas,
        )

    def persona_selections(self, aspects: pl.DataFrame, personas: pl.DataFrame) -> list[Question]:
        """What is asked of every user with a history before a target that has personas."""
        return persona_selections.questions(
            self.split,
            self.items,
            aspects,
            personas,
            self.schema,
            self._prompt(persona_selections.STAGE),
            self.limits,
            users=self.scope.users,
            seed=self.config.seed,
        )

    def tables(self, ask: Ask) -> Prepared:
        """All stages, one after the other."""
        summaries = item_summaries.table(ask(item_summaries.STAGE, self.item_summaries()))
        aspects = review_aspects.table(ask(review_aspects.STAGE, self.review_aspects()), self.schema)
        asked = ask(item_personas.STAGE, self.item_personas(summaries, aspects))
        personas = item_personas.table(asked, summaries)
        asked = ask(persona_selections.STAGE, self.persona_selections(aspects, personas))
        return Prepared(self.split, self.scope, summaries, aspects, personas, persona_selections.table(asked))

    def _prompt(self, stage: str) -> Prompt:
        return load_prompts(self.config.prompts)[stage]


def split_of(reviews: pl.DataFrame, config: PrepareConfig) -> Split:
    """The split that a configuration asks for."""
    as_of = datetime.fromisoformat(config.as_of).replace(tzinfo=UTC) if config.as_of else None
    return split_reviews(reviews, min_rating=config.min_rating, as_of=as_of, k_core=config.k_core)


def scope_of(split: Split, *, num_items: int | None = None, num_users: int | None = None) -> Scope:
    """All items and users, or so many: the most reviewed items, and users whose target is among them."""
    counts = split.training.table.group_by("item_id").agg(count=pl.len())
    most = counts.sort("count", "item_id", descending=[True, False])["item_id"].to_list()
    items = frozenset(most[:num_items])
    targets = split.targets.sort("user_id")
    users = targets.filter(pl.col("item_id").is_in(list(items)))["user_id"].to_list()
    return Scope(items, frozenset(users[:num_users]))
