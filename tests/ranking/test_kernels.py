import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from personarank_dagster.ranking.kernels import MIN_SPREAD, order_list, place_targets

HALF = np.float32(0.5)
LARGEST = 1.7e308


def ordered(candidate: list[float], persona: list[float], alpha: float) -> tuple[list[float], list[int]]:
    """Final scores of one list, and its pairs, best first."""
    final, order = np.empty(len(candidate)), np.empty(len(candidate), np.int64)
    order_list(np.array(candidate, np.float64), np.array(persona, np.float32), alpha, final, order)
    return final.tolist(), order.tolist()


def place_of_second(candidate: list[float], persona: list[float], alpha: float) -> int:
    places, offsets = np.empty((1, 1), np.int64), np.array([0, len(candidate)])
    is_target = np.arange(len(candidate)) == 1
    scores = np.array(candidate, np.float64), np.array(persona, np.float32)
    place_targets(offsets, *scores, is_target, np.array([alpha]), places)
    return int(places[0, 0])


def test_persona_scores_that_differ_by_rounding_overturn_nothing() -> None:
    # 6e-8 apart; stretched to [0, 1] they would give 0.5, 0.8, 0 and let the second overtake a gap of 0.4.
    persona = [HALF, np.nextafter(HALF, np.float32(1)), HALF]
    assert ordered([1.0, 0.6, 0.0], persona, 0.5) == ([1.0, 0.6, 0.0], [0, 1, 2])
    assert place_of_second([1.0, 0.6, 0.0], persona, 0.5) == 2


def test_persona_scores_as_far_apart_as_rounding_can_bring_them_count() -> None:
    told, alike = [0.5, 0.5 + MIN_SPREAD, 0.5], [0.5, 0.5 + 0.999 * MIN_SPREAD, 0.5]
    assert ordered([1.0, 0.6, 0.0], told, 0.5) == ([0.5, 0.8, 0.0], [1, 0, 2])
    assert place_of_second([1.0, 0.6, 0.0], told, 0.5) == 1
    assert ordered([1.0, 0.6, 0.0], alike, 0.5)[1] == [0, 1, 2]
    assert place_of_second([1.0, 0.6, 0.0], alike, 0.5) == 2


@pytest.mark.parametrize("persona", [[], [np.nan, np.nan], [np.nan, 0.9]])
def test_without_two_persona_scores_the_candidate_order_stays(persona: list[float]) -> None:
    candidate = [1.0, 0.0][: len(persona)]
    assert ordered(candidate, persona, 0.9)[0] == candidate


@given(st.integers(0, 2**32), st.sampled_from([2, 5, 384, 1024]))
def test_rounding_to_fp16_moves_a_cosine_by_less_than_half_of_the_spread(seed: int, dimension: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(2, dimension))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    rounded = unit.astype(np.float16).astype(np.float64)
    profile = rounded[0] / np.linalg.norm(rounded[0])
    assert abs(profile @ rounded[1] - unit[0] @ unit[1]) < MIN_SPREAD / 2


def test_scores_of_the_whole_range_of_doubles_are_scaled_without_overflow() -> None:
    assert ordered([LARGEST, 0.0, -LARGEST], [np.nan] * 3, 0.5)[0] == [1.0, 0.5, 0.0]
    assert ordered([5e-324, 0.0], [np.nan] * 2, 0.5)[0] == [1.0, 0.0]


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1), st.sampled_from([0.0, 0.5, 1.0]))
@example([LARGEST, -LARGEST, 1e-308], 0.5)
def test_the_final_score_lies_between_0_and_1_and_keeps_the_candidates_order(
    scores: list[float], alpha: float
) -> None:
    candidate = sorted(scores, reverse=True)
    final, order = ordered(candidate, [np.nan] * len(candidate), alpha)
    assert all(0 <= score <= 1 for score in final)
    assert order == list(range(len(candidate)))
    assert len(set(candidate)) == 1 or (final[0], final[-1]) == (1.0, 0.0)
