"""What a preparation would ask and cost, without asking."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from personarank_dagster.preparation.client.asking import Rules
from personarank_dagster.preparation.client.kept_answers import KeptAnswers
from personarank_dagster.preparation.client.token_counts import TokenCount
from personarank_dagster.preparation.questions import BadAnswerError, Question, checked
from personarank_dagster.preparation.run import Source, preparation_of

# Tokens of a usual answer.
USUAL_ANSWERS = {"item_summaries": 120, "review_aspects": 150, "item_personas": 600, "persona_selections": 60}


@dataclass(frozen=True)
class StageEstimate:
    """Questions of a stage, those that are answered already, and tokens that the others are guessed to take."""

    stage: str
    questions: int
    kept: int
    tokens_in: int
    tokens_out: int


@dataclass(frozen=True)
class Estimate:
    """What each stage would ask, and what was spent so far."""

    stages: list[StageEstimate]
    spent: tuple[int, float]


def estimate(source: Source) -> Estimate:
    """What a preparation would ask: answers that are kept count, others are guessed at."""
    stages: list[StageEstimate] = []
    means = source.means
    with KeptAnswers(means.answers_path) as kept:

        def look(stage: str, questions: Sequence[Question]) -> dict[str, Any]:
            found = {question.row: _kept_answer(kept, means.rules, question) for question in questions}
            new = [question for question in questions if found[question.row] is None]
            stages.append(_estimated(stage, questions, new, means.rules.tokens))
            return found | {question.row: _guess(question) for question in new}

        preparation_of(source).tables(look)
        return Estimate(stages, kept.spent())


def _estimated(
    stage: str, questions: Sequence[Question], new: Sequence[Question], tokens: TokenCount
) -> StageEstimate:
    return StageEstimate(
        stage,
        questions=len(questions),
        kept=len(questions) - len(new),
        tokens_in=sum(map(tokens.of, new)),
        tokens_out=len(new) * USUAL_ANSWERS[stage],
    )


def _kept_answer(kept: KeptAnswers, rules: Rules, question: Question) -> Any:
    content = kept.get(rules.key(question))
    try:
        return None if content is None else checked(question, content)
    except BadAnswerError:
        return None


def _guess(question: Question) -> Any:
    """An answer of the usual length, for the sizes of what follows from it."""
    if question.stage == "item_summaries":
        return "s" * 400
    if question.stage == "review_aspects":
        return dict.fromkeys(question.answer_schema["required"], "a" * 40)
    if question.stage == "item_personas":
        least = question.answer_schema["properties"]["personas"]["minItems"]
        text = {"name": "n" * 20, "description": "d" * 200, "preference_rationale": "r" * 300, "evidence": ["R1"]}
        return [text] * least
    persona = {"item_id": "", "unique_persona_id": "", "name": ""}
    return {"persona": persona, "reason": "", "offered_as": "", "offered": 1}
