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
        amount = np.float32(caches.weights[end - 1 - i] * scale) * cosine
        place = len(reasons)
        while place > 0 and amount > contributions[place - 1]:
            place -= 1
        if place < len(reasons):
            for later in range(len(reasons) - 1, place, -1):
                reasons[later], contributions[later] = reasons[later - 1], contributions[later - 1]
            reasons[place], contributions[place] = i, amount


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
