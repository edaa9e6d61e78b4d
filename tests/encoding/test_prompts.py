"""Prompts of a model: the same in training, in caches, and in what sentence-transformers makes of the result."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from personarank_dagster.core.encoders import SIDES, Side
from personarank_dagster.core.profiles import FloatArray, unit_rows
from personarank_dagster.encoding.encoder import base_of, encode, load_model, model_fingerprint, save_model
from personarank_dagster.encoding.training.models import EncoderModel
from personarank_dagster.encoding.training.trainer import Training, TrainingRun, train_encoder_weights, train_head
from tests.encoding.training.test_trainer import CONFIG, DATA, NUM_PERSONAS, TEXTS
from tests.tiny_models import write_tiny_model

PROMPTS: dict[str, dict[str, str]] = {
    "a default": {"any": "the red desk "},
    "one a side": {"query": "query a blue ", "document": "passage the red "},
}
STEPS = msgspec.structs.replace(CONFIG, max_steps=2, negatives="batch")


@pytest.fixture(scope="module", params=PROMPTS)
def model_path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    prompts = PROMPTS[request.param]
    path = write_tiny_model(tmp_path_factory.mktemp("prompts"), prompts=prompts)
    if request.param == "one a side":
        config = Path(path) / "config_sentence_transformers.json"
        config.write_text(config.read_text().replace('"default_prompt_name": "query"', '"default_prompt_name": null'))
    return path


def load(path: str) -> SentenceTransformer:
    return load_model(path, max_len=32, device="cpu")


def trained(tune: str, path: str) -> Training:
    model = load(path)
    config = msgspec.structs.replace(STEPS, tune=tune)
    if tune == "head":
        vectors, personas = encode(model, TEXTS, side="query"), encode(model, TEXTS[:NUM_PERSONAS])
        return train_head(
            model,
            DATA,
            config,
            TrainingRun("cpu", "fp32", lambda *_: None),
            interaction_vectors=vectors,
            persona_vectors=personas,
        )
    return train_encoder_weights(
        model,
        DATA,
        config,
        TrainingRun("cpu", "fp32", lambda *_: None),
        interaction_texts=TEXTS,
        persona_texts=TEXTS[:NUM_PERSONAS],
    )


def cached(directory: Path, side: Side) -> FloatArray:
    """Vectors as the caches make them: by the base, then the head of the side."""
    whole = load(str(directory))
    base = encode(base_of(whole), TEXTS, side=side)
    heads = [module for name, module in whole.named_modules() if name.endswith(f"{side}.0")]
    return unit_rows(base @ heads[0].linear.weight.detach().numpy().T) if heads else base


@pytest.mark.parametrize("tune", ["head", "full", "lora"])
def test_the_published_encoder_gives_what_is_cached(tune: str, model_path: str, tmp_path: Path) -> None:
    save_model(trained(tune, model_path).model, tmp_path)
    saved = SentenceTransformer(str(tmp_path), device="cpu")
    np.testing.assert_allclose(saved.encode_query(TEXTS), cached(tmp_path, "query"), atol=1e-5)
    np.testing.assert_allclose(saved.encode_document(TEXTS), cached(tmp_path, "document"), atol=1e-5)
    np.testing.assert_allclose(saved.encode(TEXTS), cached(tmp_path, "document"), atol=1e-5)


def test_training_reads_the_prompts_too(model_path: str) -> None:
    model = load(model_path)
    training = EncoderModel(DATA, STEPS, model, TEXTS, TEXTS[:NUM_PERSONAS]).eval()
    rows = DATA.text_rows[:3]
    for side, of_texts in zip(SIDES, (training.interactions, training.personas), strict=True):
        expected = encode(model, [TEXTS[row] for row in rows], side=side)
        np.testing.assert_allclose(of_texts(rows).detach(), expected, atol=1e-5)
    plain = encode(load_model(model_path, max_len=32, device="cpu"), TEXTS)
    assert not np.allclose(plain, encode(without_prompts(model_path), TEXTS), atol=1e-3)


def test_prompts_are_part_of_the_fingerprint(model_path: str) -> None:
    assert model_fingerprint(load(model_path)) != model_fingerprint(without_prompts(model_path))


def without_prompts(path: str) -> SentenceTransformer:
    model = load(path)
    model.prompts |= dict.fromkeys(SIDES, "")
    return model
