"""Candidates as an application gives them: what is left out, and which scores are refused."""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from personarank_dagster.core.errors import InputError

Candidates = Sequence[tuple[str, float]]

# What retrievers fill lists up with.
PAD = "[PAD]"


def without_repeats(candidates: Candidates) -> tuple[Candidates, str | None]:
    """The candidates without `[PAD]` and repeated items, and what was left out."""
    first = dict.fromkeys(item for item, _ in candidates)
    if len(first) == len(candidates) and PAD not in first:
        return candidates, None
    counts: Counter[str] = Counter()
    kept = list(_kept(candidates, counts))
    return kept, "left out: " + ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))


def _kept(candidates: Candidates, left_out: Counter[str]) -> Iterator[tuple[str, float]]:
    seen: set[str] = set()
    for item, score in candidates:
        if item == PAD:
            left_out[PAD] += 1
        elif item in seen:
            left_out["repeated"] += 1
        else:
            seen.add(item)
            yield item, score


def finite_scores(candidates: Candidates) -> npt.NDArray[np.float64]:
    """Scores of the candidates. Raises InputError for one that is no finite number."""
    scores = np.array([score for _, score in candidates], dtype=np.float64)
    if np.count_nonzero(np.isfinite(scores)) < len(scores):
        item, score = candidates[int(np.argmin(np.isfinite(scores)))]
        raise InputError(f"candidates: the score of {item} must be a finite number, got {score}")
    return scores
