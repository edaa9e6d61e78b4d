"""Each check of the trained encoder with a case that passes and one that fails; all on a real run in test_caches."""

from pathlib import Path

import numpy as np
import pytest

from personarank_dagster.core.encoders import PROBES_JSON
from personarank_dagster.core.errors import EncoderError
from personarank_dagster.core.profiles import unit_rows
from personarank_dagster.core.validation import Finding
from personarank_dagster.defs.training.checks import beats, cut_at_most, falls, finite, same_vectors, spread
from personarank_dagster.storage.encoder_directory import read_probes
from tests.tiny_models import write_tiny_model

BASE = {"best_by": 0.1, "accuracy@1": 0.3, "ndcg@10_hard": 0.1, "ndcg@10_blend": 0.1, "ndcg@10_sampled": 0.2}
RECORD = {"losses": [2.0, 1.0], "evaluations": [BASE]}
VECTORS = unit_rows(np.random.default_rng(0).normal(size=(8, 16)).astype(np.float32))


def test_a_number_that_is_none_fails() -> None:
    assert finite(RECORD, [[[0.1, 0.2]]]).passed
    assert finite(RECORD | {"losses": [2.0, None]}, []).numbers["losses_not_finite"] == 1
    assert finite(RECORD | {"evaluations": [BASE | {"mrr": float("nan")}]}, []).numbers["metrics_not_finite"] == 1
    assert not finite(RECORD, [[[0.1, None]]]).passed


def test_personas_that_are_all_alike_fail() -> None:
    assert spread(VECTORS).passed
    assert spread(VECTORS[:1]).passed
    collapsed = spread(unit_rows(VECTORS[:1] + 0.03 * VECTORS))
    assert not collapsed.passed
    assert 0.998 < collapsed.numbers["mean_cosine"] < 1


def test_an_encoder_with_other_weights_than_were_trained_fails(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    from personarank_dagster.encoding.encoder import load_model
    from personarank_dagster.encoding.probes import probe, reloaded_probes

    folder = Path(write_tiny_model(tmp_path))
    kept = probe(load_model(str(folder), max_len=32, device="cpu"))
    assert same_vectors(kept, reloaded_probes(folder)).passed
    weights = load_file(folder / "model.safetensors")
    save_file({name: 1.1 * array for name, array in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    assert not same_vectors(kept, reloaded_probes(folder)).passed


def test_probes_that_are_missing_are_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=rf"{PROBES_JSON}: cannot be read: .*; train the encoder again"):
        read_probes(tmp_path)


def test_a_loss_that_does_not_fall_fails() -> None:
    assert falls([3.0] * 10 + [2.0] * 10).passed
    assert not falls([2.0, 3.0, 1.0, 2.0]).passed
    assert falls([2.0]).numbers == {"note": "1 step: nothing to compare"}


def test_a_training_that_has_not_helped_fails_with_the_reason() -> None:
    assert beats(BASE, BASE | {"best_by": 0.2}).passed
    assert beats(BASE, BASE).numbers["note"] == "the target ranks no higher"
    worse = beats(BASE, BASE | {"best_by": 0.2, "accuracy@1": 0.2})
    assert not worse.passed
    assert worse.numbers["note"] == "the selected persona is chosen less often"
    assert (worse.numbers["base accuracy@1"], worse.numbers["final accuracy@1"]) == (0.3, 0.2)
    assert "nobody was held out" in beats({}, {}).numbers["note"]


def test_texts_that_are_cut_fail() -> None:
    rarely, often = Finding(5, 100, {"longest": 30}), Finding(6, 100, {"longest": 90})
    assert cut_at_most({"interactions": rarely, "personas": rarely}).passed
    found = cut_at_most({"interactions": rarely, "personas": often})
    assert not found.passed
    assert (found.numbers["truncated_share_of_personas"], found.numbers["longest_of_personas"]) == (0.06, 90)
