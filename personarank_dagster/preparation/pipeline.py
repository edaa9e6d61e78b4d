"""From raw reviews to the tables of personas: the split, the four stages, and lists of candidates."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import polars as pl

from personarank_dagster.configuration.prepare_settings import PrepareConfig
from personarank_dagster.core.aspects import SchemaName
from personarank_dagster.preparation.evidence import Limits, refuse_held_out
from personarank_dagster.preparation.item_neighbours import candidate_lists
from personarank_dagster.preparation.prompt_files import Prompt
from personarank_dagster.preparation.questions import Question
from personarank_dagster.preparation.split import Split, TrainingReviews, split_reviews
from personarank_dagster.preparation.stages import item_personas, item_summaries, persona_selections, review_aspects

# Answers to the questions of one stage, by row; a row without an answer is left out.
Ask = Callable[[Sequence[Question]], Awaitable[dict[str, Any]]]


@dataclass(frozen=True)
class Scope:
    """Which items and users are prepared: all, or for a cheap first try the most reviewed ones."""

    items: frozenset[str]
    users: frozenset[str]


@dataclass(frozen=True)
class Prepared:
    """All that a dataset needs: the tables of the stages, and what the split made without a model."""

    split: Split
    scope: Scope
    summaries: pl.DataFrame
    aspects: pl.DataFrame
    personas: pl.DataFrame
    selections: pl.DataFrame
    candidates: pl.DataFrame


@dataclass(frozen=True)
class Preparation:
    """One dataset on its way; `ask` is what costs."""

    config: PrepareConfig
    schema: SchemaName
    items: pl.DataFrame
    split: Split
    scope: Scope
    prompts: dict[str, Prompt]
    ask: Ask

    @property
    def limits(self) -> Limits:
        """Bounds of a prompt."""
        config = self.config
        return Limits(config.context_tokens, config.max_tokens, config.mask_contacts)

    async def run(self) -> Prepared:
        """All stages, each from what the one before was answered. Raises ContractError if a question would leak."""
        config, training = self.config, self.split.training
        of_items, of_any = training.of(self.scope.items, ()), training.of(self.scope.items, self.scope.users)
        prompts, limits = self.prompts, self.limits
        asked = await self._ask(item_summaries.questions(self.items, of_items, prompts[item_summaries.STAGE], limits))
        summaries = item_summaries.table(asked)
        asked = await self._ask(
            review_aspects.questions(self.items, of_any, self.schema, prompts[review_aspects.STAGE], limits)
        )
        aspects = review_aspects.table(asked, self.schema)
        personas = await self._personas(summaries, aspects, of_items)
        asked = await self._ask(
            persona_selections.questions(
                self.split,
                self.items,
                aspects,
                personas,
                self.schema,
                prompts[persona_selections.STAGE],
                limits,
                users=self.scope.users,
                seed=config.seed,
            )
        )
        selections = persona_selections.table(asked)
        return Prepared(self.split, self.scope, summaries, aspects, personas, selections, self._candidates())

    async def _personas(
        self, summaries: pl.DataFrame, aspects: pl.DataFrame, reviews: TrainingReviews
    ) -> pl.DataFrame:
        questions = item_personas.questions(
            summaries,
            aspects,
            reviews,
            self.schema,
            self.prompts[item_personas.STAGE],
            self.limits,
            least=self.config.min_personas,
            most=self.config.max_personas,
        )
        return item_personas.table(await self._ask(questions), summaries)

    async def _ask(self, questions: Sequence[Question]) -> dict[str, Any]:
        refuse_held_out(questions, self.split.held_out, mask=self.config.mask_contacts)
        return await self.ask(questions)

    def _candidates(self) -> pl.DataFrame:
        config = self.config
        return candidate_lists(
            self.split.training.table,
            pl.Series(sorted(self.scope.users), dtype=pl.String()),
            min_rating=config.min_rating,
            neighbours=config.neighbours,
            length=config.candidates,
        )


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
