"""Checks of the trained encoder, after it was published: whether it can be used, and whether training helped."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import isfinite
from statistics import fmean
from typing import Any

import dagster as dg
import msgspec
import numpy as np

from personarank_dagster.core.encoders import TRAINING_JSON, Probes
from personarank_dagster.core.profiles import FloatArray
from personarank_dagster.core.validation import (
    MAX_TRUNCATED,
    Finding,
    interaction_texts_fit_max_len,
    persona_texts_fit_max_len,
)
from personarank_dagster.defs.platform.declarations import Check, Found
from personarank_dagster.defs.platform.published_checks import Published, data_limits
from personarank_dagster.storage.encoder_directory import EncoderDirectory, open_encoder, read_probes

ASSET = "trained_encoder"

# Personas, each of another item, that are compared with each other; a mean cosine from which on they are all alike.
# Trained sentence encoders have 0.3 to 0.9, a transformer that is none up to 0.99, a collapsed encoder 0.999.
COMPARED_PERSONAS, MAX_MEAN_COSINE = 32, 0.995
# How far a number of a probe's vector may be from the one that training saw, on another device.
MAX_DIFFERENCE = 1e-3
# Share of the steps at either end of a training whose mean losses are compared.
ENDS = 0.1


@dataclass(frozen=True)
class EncoderSubject(Published):
    """The published encoder of one dataset."""

    @property
    def encoder(self) -> EncoderDirectory:
        """Its directory."""
        return open_encoder(self.version(ASSET).directory)

    @property
    def record(self) -> dict[str, Any]:
        """Content of `training.json`."""
        record: dict[str, Any] = msgspec.json.decode((self.encoder.path / TRAINING_JSON).read_bytes())
        return record


def encoder_numbers_are_finite(subject: EncoderSubject) -> Found:
    """The loss of every step, every metric, and every number of the vectors of a few probes is finite."""
    probes = read_probes(subject.encoder.path)
    return finite(subject.record, [probes.query, probes.document])


def finite(record: Mapping[str, Any], vectors: Sequence[Sequence[Sequence[float | None]]]) -> Found:
    """See above, of `training.json` and vectors; JSON holds null in the place of what is no number."""
    losses, evaluations = record["losses"], record["evaluations"]
    numbers = {
        "losses": _not_finite([*losses, *record.get("refit_losses", [])]),
        "metrics": _not_finite(value for one in evaluations for value in one.values()),
        "vectors": _not_finite(number for side in vectors for vector in side for number in vector),
    }
    return Found(not any(numbers.values()), {f"{name}_not_finite": count for name, count in numbers.items()})


def encoder_does_not_collapse(subject: EncoderSubject) -> Found:
    """Personas of different items have different vectors: their mean pairwise cosine is below 0.995."""
    from personarank_dagster.encoding.encoder import encode, load_model

    personas = subject.table("personas").unique("item_id", keep="first", maintain_order=True).collect()
    some = personas.gather_every(max(1, personas.height // COMPARED_PERSONAS)).head(COMPARED_PERSONAS)
    encoder = subject.encoder
    model = load_model(str(encoder.path), max_len=encoder.info.max_len, device=subject.gpu.torch_device())
    return spread(encode(model, subject.config.template.persona_texts(some).to_list(), side="document"))


def spread(vectors: FloatArray) -> Found:
    """See above, of unit vectors (personas, dimension)."""
    if len(vectors) < 2:
        return Found(True, {"note": "fewer than two items have personas"})
    mean = float((vectors @ vectors.T)[np.triu_indices(len(vectors), 1)].mean())
    return Found(mean < MAX_MEAN_COSINE, {"personas": len(vectors), "mean_cosine": mean, "bound": MAX_MEAN_COSINE})


def encoder_reloads_to_the_same_vectors(subject: EncoderSubject) -> Found:
    """The published directory, loaded by sentence-transformers alone, gives the vectors that training saw."""
    from personarank_dagster.encoding.probes import reloaded_probes

    return same_vectors(read_probes(subject.encoder.path), reloaded_probes(subject.encoder.path))


def same_vectors(kept: Probes, reloaded: Probes) -> Found:
    """See above, of the vectors of the same texts."""
    largest = max(
        float(np.abs(np.array(before, np.float32) - np.array(after, np.float32)).max())
        for before, after in ((kept.query, reloaded.query), (kept.document, reloaded.document))
    )
    return Found(largest <= MAX_DIFFERENCE, {"texts": len(kept.texts), "largest_difference": largest})


def training_loss_falls(subject: EncoderSubject) -> Found:
    """The mean loss of the last tenth of the steps is below that of the first tenth."""
    return falls(subject.record["losses"])


def falls(losses: Sequence[float]) -> Found:
    """See above, of the loss of each step."""
    if len(losses) < 2:
        return Found(True, {"note": f"{len(losses)} step: nothing to compare"})
    steps = max(1, int(ENDS * len(losses)))
    first, last = fmean(losses[:steps]), fmean(losses[-steps:])
    return Found(last < first, {"first_loss": first, "last_loss": last, "steps": len(losses)})


def encoder_beats_the_untrained_base(subject: EncoderSubject) -> Found:
    """On held-out users the target ranks higher than with the untrained base, and the persona is chosen no worse."""
    record = subject.record
    return beats(record["base"], record["final"])


def beats(base: Mapping[str, float], final: Mapping[str, float]) -> Found:
    """See above, of the metrics before and after; `best_by` is the one that chose the weights.

    A training whose best epoch is its start has learned nothing, so equal is not enough; among an item's few
    personas it is.
    """
    if not base:
        return Found(True, {"note": "nobody was held out (validation_share: 0), so nothing was measured"})
    worse = [
        reason
        for reason, found in (
            ("the target ranks no higher", final["best_by"] <= base["best_by"]),
            ("the selected persona is chosen less often", final["accuracy@1"] < base["accuracy@1"]),
        )
        if found
    ]
    numbers = {
        f"{when} {name}": metrics[name]
        for name in ("accuracy@1", "ndcg@10_blend", "ndcg@10_hard", "ndcg@10_sampled")
        for when, metrics in (("base", base), ("final", final))
    }
    return Found(not worse, numbers | ({"note": "; ".join(worse)} if worse else {}))


def encoder_reads_whole_texts(subject: EncoderSubject) -> Found:
    """At most 5 % of the texts, of a sample of both kinds, have more tokens than the encoder reads (`max_len`)."""
    from personarank_dagster.encoding.tokens.counter import token_counter

    encoder = subject.encoder
    counter = token_counter(str(encoder.path))
    limits = replace(data_limits(subject.config), max_len=encoder.info.max_len, count_tokens=counter)
    return cut_at_most(
        {
            "interactions": interaction_texts_fit_max_len(subject.table("histories"), limits),
            "personas": persona_texts_fit_max_len(subject.table("personas"), limits),
        }
    )


def cut_at_most(findings: Mapping[str, Finding]) -> Found:
    """See above, of what was counted of each kind."""
    shares = {f"truncated_share_of_{kind}": finding.share for kind, finding in findings.items()}
    longest = {f"longest_of_{kind}": finding.numbers.get("longest", 0) for kind, finding in findings.items()}
    return Found(max(shares.values()) <= MAX_TRUNCATED, shares | longest)


def _not_finite(numbers: Iterable[float | None]) -> int:
    return sum(number is None or not isfinite(number) for number in numbers)


def _check(
    find: Callable[[EncoderSubject], Found],
    *needs: str,
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.WARN,
    blocking: bool = False,
) -> Check:
    return Check(
        name=find.__name__,
        asset=ASSET,
        find=lambda published: find(EncoderSubject(published.sight, published.gpu, published.judged)),
        description=find.__doc__,
        needs=needs,
        severity=severity,
        blocking=blocking,
    )


_usable = partial(_check, severity=dg.AssetCheckSeverity.ERROR, blocking=True)

# With the three that judge, cosines would mean nothing. The others are for a person to look at.
encoder_checks = (
    _usable(encoder_numbers_are_finite),
    _usable(encoder_does_not_collapse, "personas"),
    _usable(encoder_reloads_to_the_same_vectors),
    _check(training_loss_falls),
    _check(encoder_beats_the_untrained_base),
    _check(encoder_reads_whole_texts, "histories", "personas"),
)
