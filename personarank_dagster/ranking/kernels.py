"""Compiled loops over fp16 rows: import this module only where it runs, since it loads numba.

All arithmetic on vectors is fp32. fp16 rows come as their bits (uint16): numba knows no fp16, but the processor turns
eight or sixteen of them into fp32 in one instruction. Everything that a loop calls is in this file, because numba's
cache on disk watches no other.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from personarank_dagster.core.profiles import FloatArray, IntArray

Bits = npt.NDArray[np.uint16]
Rows = npt.NDArray[np.uint32]
Scores = npt.NDArray[np.float64]


class Caches(NamedTuple):
    """Both caches: vectors, the row of each line of the index, and the weight of an interaction by its age.

    Made within compiled code; as an argument from outside it would take longer to pass than to use.
    """

    vectors: Bits
    rows: Rows
    weights: FloatArray
    personas: Bits
    persona_rows: Rows


FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

# What a sum of products needs to run in lanes: another order, fused products. NaN and infinity keep their meaning.
IN_LANES = {"reassoc", "contract", "nsz"}
# fp16 values in a line of the processor's cache.
LINE_VALUES = 32
# Persona scores of a list that lie closer together say nothing about its order: fp16 may have made the difference.
# Rounding moves a number by at most its 2**-11th part, so a unit vector by at most 2**-11, and a cosine of two such
# vectors by at most 2**-10. Two cosines that were equal then differ by at most 2**-9.
MIN_SPREAD = 2.0**-9


def compiled(function: FunctionT, *, fastmath: set[str] | bool = False) -> FunctionT:
    """Compile at the first call, without the GIL; kept on disk where a folder for that can be written."""
    dispatcher: Any = numba.njit(nogil=True, fastmath=fastmath, error_model="numpy")(function)
    with suppress(RuntimeError):
        dispatcher.enable_caching()
    return dispatcher  # type: ignore[no-any-return]


def in_lanes(function: FunctionT) -> FunctionT:
    """As `compiled`, for sums over vectors."""
    return compiled(function, fastmath=IN_LANES)


def _convert(typing_context: Any, bits: Any) -> Any:
    """fp32 of the bits of an fp16."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fpext(builder.bitcast(args[0], ir.HalfType()), ir.FloatType())

    return types.float32(types.uint16), generate


_float_of: Any = intrinsic(_convert)


def _fetch(typing_context: Any, matrix: Any, row: Any, column: Any) -> Any:
    """Ask the processor to bring the line at matrix[row, column] into its cache; nothing waits for it."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0])
        find_place: Any = cgutils.get_item_pointer
        place = find_place(context, builder, signature.args[0], array, [args[1], args[2]])
        byte_pointer, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        arguments = [byte_pointer, word, word, word]
        function = builder.module.declare_intrinsic(
            "llvm.prefetch", [byte_pointer], ir.FunctionType(ir.VoidType(), arguments)
        )
        # A read, of data, to stay in all levels of the cache.
        builder.call(function, [builder.bitcast(place, byte_pointer), word(0), word(3), word(1)])
        return context.get_dummy_value()

    return types.void(matrix, row, column), generate


_prefetch: Any = intrinsic(_fetch)


@in_lanes
def _dot(vector: FloatArray, matrix: Bits, row: int) -> Any:
    total = np.float32(0)
    for column in range(len(vector)):
        total += vector[column] * _float_of(matrix[row, column])
    return total


@in_lanes
def _dot_rows(left: Bits, left_row: int, right: Bits, right_row: int) -> Any:
    total = np.float32(0)
    for column in range(left.shape[1]):
        total += _float_of(left[left_row, column]) * _float_of(right[right_row, column])
    return total


@in_lanes
def fill_lengths(lengths: FloatArray, vectors: Bits) -> None:
    """Fill in the length of each vector; NaN or infinite for one with a number that is not finite."""
    for row in range(len(vectors)):
        lengths[row] = np.sqrt(_dot_rows(vectors, row, vectors, row))


@in_lanes
def fill_profile(profile: FloatArray, start: int, end: int, vectors: Bits, rows: Rows, weights: FloatArray) -> float:
    """Fill in the unit profile of the interactions start:end, oldest first; returns the length before scaling.

    `weights[age]` is the weight of an interaction. A length of 0 leaves a zero profile.
    """
    profile[:] = 0
    for i in range(start, end):
        weight, row = weights[end - 1 - i], rows[i]
        for column in range(len(profile)):
            profile[column] += weight * _float_of(vectors[row, column])
    squares = np.float32(0)
    for column in range(len(profile)):
        squares += profile[column] * profile[column]
    length = np.sqrt(squares)
    if length > 0:
        for column in range(len(profile)):
            profile[column] /= length
    return float(length)


@in_lanes
def _prefetch_personas(start: int, end: int, vectors: Bits, rows: Rows) -> None:
    for persona in range(start, end):
        for column in range(0, vectors.shape[1], LINE_VALUES):
            _prefetch(vectors, np.intp(rows[persona]), np.intp(column))


@in_lanes
def score_pairs(
    profile: FloatArray,
    starts: IntArray,
    ends: IntArray,
    vectors: Bits,
    rows: Rows,
    scores: FloatArray,
    best: IntArray,
) -> None:
    """Highest cosine of the profile with the personas starts[i]:ends[i] of each pair, and which; NaN and -1 if none.

    The first of equal personas wins.
    """
    for pair in range(len(starts)):
        if pair + 1 < len(starts):
            _prefetch_personas(starts[pair + 1], ends[pair + 1], vectors, rows)
        scores[pair], best[pair] = np.nan, -1
        highest: Any = np.float32(-np.inf)
        for persona in range(starts[pair], ends[pair]):
            score = _dot(profile, vectors, rows[persona])
            if score > highest:
                highest = score
                scores[pair], best[pair] = score, persona


@compiled
def _add_reason(interaction: int, amount: float, reasons: IntArray, contributions: FloatArray) -> None:
    """Put an interaction among the reasons, if it adds more than the last one."""
    place = len(reasons)
    while place > 0 and amount > contributions[place - 1]:
        place -= 1
    if place < len(reasons):
        for later in range(len(reasons) - 1, place, -1):
            reasons[later], contributions[later] = reasons[later - 1], contributions[later - 1]
        reasons[place], contributions[place] = interaction, amount


@in_lanes
def find_reasons(
    start: int,
    end: int,
    scale: float,
    caches: Caches,
    persona: int,
    reasons: IntArray,
    contributions: FloatArray,
) -> None:
    """The interactions of start:end that add most to the cosine with a persona, and what each adds; -1 and 0 beyond.

    Contributions of all interactions sum to the persona score. Only those above 0 speak for it; the newer of equals
    comes first. Persona -1 has none.
    """
    reasons[:] = -1
    contributions[:] = 0
    if persona < 0:
        return
    for i in range(end - 1, start - 1, -1):
        cosine = _dot_rows(caches.vectors, caches.rows[i], caches.personas, caches.persona_rows[persona])
        _add_reason(i, np.float32(caches.weights[end - 1 - i] * scale) * cosine, reasons, contributions)


@in_lanes
def score_list(
    start: int,
    end: int,
    caches: Caches,
    persona_starts: IntArray,
    persona_ends: IntArray,
    scores: FloatArray,
    best: IntArray,
) -> float:
    """Score the pairs of one list by the interactions start:end; returns what scales their sum to the profile.

    Without interactions no pair has a score.
    """
    if start == end:
        scores[:], best[:] = np.nan, -1
        return 0.0
    profile = np.empty(caches.personas.shape[1], np.float32)
    length = fill_profile(profile, start, end, caches.vectors, caches.rows, caches.weights)
    score_pairs(profile, persona_starts, persona_ends, caches.personas, caches.persona_rows, scores, best)
    return 1 / length if length > 0 else 0.0


@in_lanes
def score_lists(
    offsets: IntArray,
    starts: IntArray,
    ends: IntArray,
    persona_starts: IntArray,
    persona_ends: IntArray,
    vectors: Bits,
    rows: Rows,
    weights: FloatArray,
    personas: Bits,
    persona_rows: Rows,
    scores: FloatArray,
    best: IntArray,
    reasons: IntArray,
    contributions: FloatArray,
) -> None:
    """Score the pairs offsets[i]:offsets[i + 1] of each list i by the interactions starts[i]:ends[i].

    `reasons` and `contributions` (pairs, reasons a pair) are left alone where they have no columns.
    """
    caches = Caches(vectors, rows, weights, personas, persona_rows)
    for i in range(len(starts)):
        start, end, pairs = starts[i], ends[i], slice(offsets[i], offsets[i + 1])
        scale = score_list(start, end, caches, persona_starts[pairs], persona_ends[pairs], scores[pairs], best[pairs])
        if reasons.shape[1]:
            for pair in range(offsets[i], offsets[i + 1]):
                find_reasons(start, end, scale, caches, best[pair], reasons[pair], contributions[pair])


@in_lanes
def _fill_row(floats: FloatArray, vectors: Bits, row: int) -> None:
    for column in range(len(floats)):
        floats[column] = _float_of(vectors[row, column])


@in_lanes
def _dot_five(matrix: FloatArray, first: int, vectors: Bits, row: int) -> Any:
    """Products of a vector with five rows of a matrix: read once, it is used five times. Ten is a usual profile."""
    a = b = c = d = e = np.float32(0)
    for column in range(matrix.shape[1]):
        value = _float_of(vectors[row, column])
        a += matrix[first, column] * value
        b += matrix[first + 1, column] * value
        c += matrix[first + 2, column] * value
        d += matrix[first + 3, column] * value
        e += matrix[first + 4, column] * value
    return a, b, c, d, e


@in_lanes
def _fill_cosines(cosines: FloatArray, interactions: FloatArray, vectors: Bits, row: int) -> None:
    """Cosines of interactions with a persona; their number is a multiple of five, those beyond the last are 0."""
    for first in range(0, len(cosines), 5):
        five = _dot_five(interactions, first, vectors, row)
        cosines[first], cosines[first + 1], cosines[first + 2], cosines[first + 3], cosines[first + 4] = five


@in_lanes
def signals_of_pair(
    profile: FloatArray,
    interactions: FloatArray,
    num_interactions: int,
    start: int,
    end: int,
    vectors: Bits,
    rows: Rows,
    signals: FloatArray,
    cosines: FloatArray,
) -> int:
    """Fill in the persona signals of one pair by the personas start:end, and return the best; NaN and -1 if none.

    They are the cosine of the profile with the best persona, the mean of the two best and of all, the cosine of the
    best (persona, interaction) pair, and the mean over interactions of that with their best persona. `cosines` are
    those of the interactions with the persona that is best for the profile.
    """
    signals[:] = np.nan
    best, total = -1, np.float32(0)
    highest: Any = np.float32(-np.inf)
    second: Any = np.float32(-np.inf)
    nearest, own = np.full(len(interactions), np.float32(-np.inf)), np.empty(len(interactions), np.float32)
    for row in range(start, end):
        _fill_cosines(own, interactions, vectors, rows[row])
        score = _dot(profile, vectors, rows[row])
        total += score
        if score > highest:
            highest, second, best = score, highest, row
            cosines[:] = own
        elif score > second:
            second = score
        for i in range(len(own)):
            nearest[i] = max(nearest[i], own[i])
    if best >= 0:
        signals[0] = highest
        signals[1] = highest if end - start == 1 else (highest + second) / 2
        signals[2] = total / (end - start)
        signals[3] = nearest[:num_interactions].max()
        signals[4] = nearest[:num_interactions].mean()
    return best


@in_lanes
def signals_of_list(
    start: int,
    end: int,
    caches: Caches,
    persona_starts: IntArray,
    persona_ends: IntArray,
    signals: FloatArray,
    best: IntArray,
    cosines: FloatArray,
) -> float:
    """`score_list` with the persona signals of every pair: `signals` (pairs, persona signals).

    `cosines` (pairs, interactions) are those with the best persona; there is room for a multiple of five.
    """
    if start == end:
        signals[:], best[:] = np.nan, -1
        return 0.0
    profile = np.empty(caches.personas.shape[1], np.float32)
    length = fill_profile(profile, start, end, caches.vectors, caches.rows, caches.weights)
    interactions = np.zeros((cosines.shape[1], len(profile)), np.float32)
    for i in range(end - start):
        _fill_row(interactions[i], caches.vectors, caches.rows[start + i])
    for pair in range(len(best)):
        if pair + 1 < len(best):
            _prefetch_personas(persona_starts[pair + 1], persona_ends[pair + 1], caches.personas, caches.persona_rows)
        best[pair] = signals_of_pair(
            profile,
            interactions,
            end - start,
            persona_starts[pair],
            persona_ends[pair],
            caches.personas,
            caches.persona_rows,
            signals[pair],
            cosines[pair],
        )
    return 1 / length if length > 0 else 0.0


@in_lanes
def _reasons_by_cosines(
    start: int,
    end: int,
    scale: float,
    weights: FloatArray,
    cosines: FloatArray,
    persona: int,
    reasons: IntArray,
    contributions: FloatArray,
) -> None:
    """`find_reasons` where the cosines of the interactions with the persona are known."""
    reasons[:] = -1
    contributions[:] = 0
    if persona >= 0:
        for i in range(end - 1, start - 1, -1):
            _add_reason(i, np.float32(weights[end - 1 - i] * scale) * cosines[i - start], reasons, contributions)


@compiled
def _room_for_cosines(num_pairs: int, num_interactions: int) -> FloatArray:
    return np.empty((num_pairs, (num_interactions + 4) // 5 * 5), np.float32)


@in_lanes
def signals_of_lists(
    offsets: IntArray,
    starts: IntArray,
    ends: IntArray,
    persona_starts: IntArray,
    persona_ends: IntArray,
    vectors: Bits,
    rows: Rows,
    weights: FloatArray,
    personas: Bits,
    persona_rows: Rows,
    signals: FloatArray,
    best: IntArray,
    reasons: IntArray,
    contributions: FloatArray,
) -> None:
    """`score_lists` with the persona signals of every pair."""
    caches = Caches(vectors, rows, weights, personas, persona_rows)
    for i in range(len(starts)):
        start, end, pairs = starts[i], ends[i], slice(offsets[i], offsets[i + 1])
        cosines = _room_for_cosines(offsets[i + 1] - offsets[i], end - start)
        own = persona_starts[pairs], persona_ends[pairs]
        scale = signals_of_list(start, end, caches, *own, signals[pairs], best[pairs], cosines)
        if reasons.shape[1]:
            for pair in range(offsets[i], offsets[i + 1]):
                told = cosines[pair - offsets[i]]
                _reasons_by_cosines(start, end, scale, weights, told, best[pair], reasons[pair], contributions[pair])


@compiled
def _range(values: Any) -> Any:
    """Lowest and highest value, NaN aside; infinity and its negative where there is none."""
    low, high = np.inf, -np.inf
    for value in values:
        if value < low:
            low = value
        if value > high:
            high = value
    return low, high


@compiled
def _minmax(values: Scores) -> None:
    """Scale to [0, 1] in place, NaN aside; equal values become 0.5."""
    low, high = _range(values)
    # Where a difference would overflow, halves are taken, which is exact for numbers of that size.
    part = 1.0 if high - low < np.inf else 0.5
    width = part * high - part * low
    for i in range(len(values)):
        if high > low:
            values[i] = (part * values[i] - part * low) / width
        elif not np.isnan(values[i]):
            values[i] = 0.5


@compiled
def _scaled(values: Any) -> Scores:
    scaled = np.empty(len(values), np.float64)
    scaled[:] = values
    _minmax(scaled)
    return scaled


@compiled
def _tells_apart(scores: FloatArray) -> bool:
    """Whether the scores differ by more than rounding can: one alone, or equal ones, say nothing about the order."""
    low, high = _range(scores)
    return bool(high - low >= MIN_SPREAD)


@compiled
def _blend(candidate: Scores, persona: Scores, alpha: float, final: Scores) -> None:
    for i in range(len(candidate)):
        final[i] = candidate[i] if np.isnan(persona[i]) else alpha * persona[i] + (1 - alpha) * candidate[i]


@compiled
def order_list(
    candidate_scores: Scores, persona_scores: FloatArray, alpha: float, final: Scores, order: IntArray
) -> None:
    """Fill in the final score of every pair of one list, and the pairs, best first; ties keep their order."""
    candidate = _scaled(candidate_scores)
    if _tells_apart(persona_scores):
        _blend(candidate, _scaled(persona_scores), alpha, final)
    else:
        final[:] = candidate
    order[:] = np.argsort(-final, kind="mergesort")


@compiled
def order_lists(
    offsets: IntArray,
    candidate_scores: Scores,
    persona_scores: FloatArray,
    alphas: Scores,
    final: Scores,
    order: IntArray,
) -> None:
    """`order_list` for the pairs offsets[i]:offsets[i + 1] of each list i."""
    for i in range(len(offsets) - 1):
        pairs = slice(offsets[i], offsets[i + 1])
        order_list(candidate_scores[pairs], persona_scores[pairs], alphas[i], final[pairs], order[pairs])
        order[pairs] += offsets[i]


@compiled
def rerank_list(
    start: int,
    end: int,
    persona_starts: IntArray,
    persona_ends: IntArray,
    candidate_scores: Scores,
    alpha: float,
    vectors: Bits,
    rows: Rows,
    weights: FloatArray,
    personas: Bits,
    persona_rows: Rows,
    scores: FloatArray,
    best: IntArray,
    final: Scores,
    order: IntArray,
    reasons: IntArray,
    contributions: FloatArray,
) -> None:
    """Score and order one list, and find the reasons of as many of the first places as `reasons` has rows."""
    caches = Caches(vectors, rows, weights, personas, persona_rows)
    scale = score_list(start, end, caches, persona_starts, persona_ends, scores, best)
    order_list(candidate_scores, scores, alpha, final, order)
    for place in range(len(reasons)):
        find_reasons(start, end, scale, caches, best[order[place]], reasons[place], contributions[place])


@compiled
def place_targets(
    offsets: IntArray,
    candidate_scores: Scores,
    persona_scores: FloatArray,
    is_target: npt.NDArray[np.bool_],
    alphas: Scores,
    places: IntArray,
) -> None:
    """Place (from 1) of the best target of each list i under each alpha j: places[i, j], 0 where none is listed."""
    for i in range(len(offsets) - 1):
        pairs = slice(offsets[i], offsets[i + 1])
        candidate, persona, targets = (
            _scaled(candidate_scores[pairs]),
            _scaled(persona_scores[pairs]),
            is_target[pairs],
        )
        if not _tells_apart(persona_scores[pairs]):
            persona[:] = np.nan
        final = np.empty(len(candidate), np.float64)
        for j in range(len(alphas)):
            _blend(candidate, persona, alphas[j], final)
            places[i, j] = _best_place(final, targets)


@compiled
def _best_place(final: Scores, targets: npt.NDArray[np.bool_]) -> int:
    best = -1
    for i in range(len(final)):
        if targets[i] and (best < 0 or final[i] > final[best]):
            best = i
    if best < 0:
        return 0
    place = 1
    for i in range(len(final)):
        if final[i] > final[best] or (i < best and final[i] == final[best]):
            place += 1
    return place


@compiled
def _fill_signals(
    candidate_scores: Scores, persona_signals: FloatArray, popularity: Scores, signals: npt.NDArray[np.float32]
) -> None:
    """Fill in what the pairs of one list, in the retriever's order, are ranked by; see `signals.SIGNALS`.

    Persona signals are 0.5 where there is none, and in the whole list where they tell nothing apart.
    """
    num_persona_signals = persona_signals.shape[1]
    for i in range(len(signals)):
        signals[i, 0] = 1 / np.log2(i + 2)
        signals[i, 2 + num_persona_signals] = np.log1p(popularity[i])
    signals[:, 1] = _scaled(candidate_scores)
    for j in range(num_persona_signals):
        signals[:, 2 + j] = 0.5
        if _tells_apart(persona_signals[:, j]):
            scaled = _scaled(persona_signals[:, j])
            for i in range(len(signals)):
                if not np.isnan(scaled[i]):
                    signals[i, 2 + j] = scaled[i]


@compiled
def fill_signals(
    offsets: IntArray,
    candidate_scores: Scores,
    persona_signals: FloatArray,
    popularity: Scores,
    signals: npt.NDArray[np.float32],
) -> None:
    """Fill in the signals (pairs, signals) of the pairs offsets[i]:offsets[i + 1] of each list i."""
    for i in range(len(offsets) - 1):
        pairs = slice(offsets[i], offsets[i + 1])
        _fill_signals(candidate_scores[pairs], persona_signals[pairs], popularity[pairs], signals[pairs])


@compiled
def _weigh(signals: npt.NDArray[np.float32], weights: Scores, parts: npt.NDArray[np.float32], final: Scores) -> None:
    """What each signal of the pairs of one list adds to their scores, compared with the mean of the list."""
    final[:] = 0
    for j in range(len(weights)):
        mean = 0.0
        for i in range(len(final)):
            mean += signals[i, j]
        mean /= max(1, len(final))
        for i in range(len(final)):
            part = weights[j] * (signals[i, j] - mean)
            parts[i, j] = part
            final[i] += part


@compiled
def order_by_signals(
    offsets: IntArray,
    signals: npt.NDArray[np.float32],
    weights: Scores,
    parts: npt.NDArray[np.float32],
    final: Scores,
    order: IntArray,
) -> None:
    """Final score of every pair by the weights (lists, signals) of its list, its parts, and the pairs, best first.

    Ties keep their order.
    """
    for i in range(len(offsets) - 1):
        pairs = slice(offsets[i], offsets[i + 1])
        _weigh(signals[pairs], weights[i], parts[pairs], final[pairs])
        order[pairs] = offsets[i] + np.argsort(-final[pairs], kind="mergesort")


@compiled
def rerank_list_by_signals(
    start: int,
    end: int,
    persona_starts: IntArray,
    persona_ends: IntArray,
    candidate_scores: Scores,
    popularity: Scores,
    signal_weights: Scores,
    vectors: Bits,
    rows: Rows,
    weights: FloatArray,
    personas: Bits,
    persona_rows: Rows,
    persona_signals: FloatArray,
    parts: npt.NDArray[np.float32],
    best: IntArray,
    final: Scores,
    order: IntArray,
    reasons: IntArray,
    contributions: FloatArray,
) -> None:
    """`rerank_list` by all signals: `parts` (pairs, signals) are what each adds to the score of a pair."""
    caches = Caches(vectors, rows, weights, personas, persona_rows)
    cosines = _room_for_cosines(len(best), end - start)
    scale = signals_of_list(start, end, caches, persona_starts, persona_ends, persona_signals, best, cosines)
    signals = np.empty_like(parts)
    _fill_signals(candidate_scores, persona_signals, popularity, signals)
    _weigh(signals, signal_weights, parts, final)
    order[:] = np.argsort(-final, kind="mergesort")
    for place in range(len(reasons)):
        pair = order[place]
        _reasons_by_cosines(
            start, end, scale, weights, cosines[pair], best[pair], reasons[place], contributions[place]
        )


@compiled
def best_target_places(offsets: IntArray, final: Scores, is_target: npt.NDArray[np.bool_], places: IntArray) -> None:
    """Place (from 1) of the best target of each list by its final scores, 0 where none is listed."""
    for i in range(len(offsets) - 1):
        pairs = slice(offsets[i], offsets[i + 1])
        places[i] = _best_place(final[pairs], is_target[pairs])
