from pathlib import Path

import pytest

from personarank_dagster.configuration.dataset import load_dataset
from personarank_dagster.configuration.public_scripts import passed_over
from personarank_dagster.core.errors import ConfigError

FILES = {
    "data.yaml": "data_root: ..\nselected: s.jsonl\npersona: p.jsonl\nloo_history: h.jsonl\nout_root: ./outputs",
    "train.yaml": "st_path: BAAI/bge-m3\nnum_workers: 0\nnproc: 1\nlr: 1.0e-5\nlora_r: 16\nqlora: 0\nadam8bit: 0\n"
    "freeze_logit_scale_steps: 100",
    "rerank.yaml": 'mode: component\nuse_external_caches: 0\next_persona_cache: ""\next_interaction_cache: ""',
}


def write(folder: Path, name: str) -> Path:
    """A dataset with files as the public scripts have them."""
    (folder / name).mkdir()
    for file, text in FILES.items():
        (folder / name / file).write_text(text)
    return folder / name


@pytest.mark.parametrize("name", ["amazon", "yelp"])
def test_a_dataset_called_like_a_schema_needs_none(tmp_path: Path, name: str) -> None:
    write(tmp_path, name)
    config = load_dataset(tmp_path, name)
    assert (config.data.schema, config.train.lr, config.template.with_aspects) == (name, 1e-5, True)


def test_the_schema_that_is_set_counts_whatever_the_name(tmp_path: Path) -> None:
    data = write(tmp_path, "amazon") / "data.yaml"
    data.write_text(f"schema: yelp\n{data.read_text()}")
    assert load_dataset(tmp_path, "amazon").data.schema == "yelp"


def test_a_dataset_of_any_other_name_needs_a_schema(tmp_path: Path) -> None:
    write(tmp_path, "books")
    with pytest.raises(ConfigError, match=r"data\.yaml: schema is missing; it must be amazon or yelp$"):
        load_dataset(tmp_path, "books")


def test_keys_of_the_public_scripts_are_passed_over_with_one_line_for_each_file(tmp_path: Path) -> None:
    folder = write(tmp_path, "amazon")
    data, train = passed_over(folder)
    assert data == (
        f"{folder}/data.yaml: passed over, keys of the public scripts: data_root (relative paths start at this file)"
    )
    assert train == (
        f"{folder}/train.yaml: passed over, keys of the public scripts: "
        "num_workers (texts are read by the process that trains), nproc (num_gpus is the number of processes), "
        "qlora (tune: lora trains adapters, unquantised), adam8bit (the optimiser's states are fp32), "
        "freeze_logit_scale_steps (temperature is fixed); all weights are trained, as there, with tune: full alone"
    )


def test_they_are_no_keys_of_other_files_and_all_else_stays_strict(tmp_path: Path) -> None:
    folder = write(tmp_path, "amazon")
    (folder / "rerank.yaml").write_text("num_workers: 1")
    with pytest.raises(ConfigError, match=r"rerank\.yaml: unknown key num_workers; known keys: mode, "):
        load_dataset(tmp_path, "amazon")
