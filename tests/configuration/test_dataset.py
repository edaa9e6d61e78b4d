import re
from pathlib import Path

import pytest

from personarank_dagster.configuration.dataset import config_dir, dataset_names, listed, load_dataset, load_schedule
from personarank_dagster.core.errors import ConfigError

ROOT = Path(__file__).parents[2]
SHIPPED = [ROOT / "configs", ROOT.parent / "shared" / "real" / "configs"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one valid dataset, `books`."""
    (tmp_path / "books").mkdir()
    for name in ("data", "train", "rerank"):
        (tmp_path / "books" / f"{name}.yaml").write_text((ROOT / f"configs/amazon/{name}.yaml").read_text())
    return tmp_path


def edit(folder: Path, file: str, old: str, new: str) -> Path:
    path = folder / "books" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return path


@pytest.mark.parametrize("shipped", SHIPPED, ids=["configs", "real"])
def test_every_shipped_yaml_loads(shipped: Path) -> None:
    if not shipped.is_dir():
        pytest.skip(f"{shipped} is not here: the real reviews are not part of the repository")
    names = dataset_names(shipped)
    assert {"amazon", "yelp"} <= set(names)
    assert all(load_dataset(shipped, name).name == name for name in names)


def test_the_files_for_bge_m3_load_and_pin_its_weights() -> None:
    examples = ROOT / "examples" / "bge-m3"
    config = load_dataset(examples, "amazon")
    assert all(path.is_file() for path in config.data.raw_files.values())
    assert (config.train.st_path, config.train.max_len, config.train.tune) == ("BAAI/bge-m3", 512, "full")
    assert config.train.st_revision
    assert re.fullmatch("[0-9a-f]{40}", config.train.st_revision)
    assert config.train.negatives == "batch"
    assert not load_schedule(examples, "amazon").enabled


def test_a_relative_model_folder_starts_at_the_yaml_file(folder: Path) -> None:
    edit(folder, "train.yaml", "bundled:all-MiniLM-L6-v2", "./model")
    edit(folder, "rerank.yaml", "mode:", "model: ../other\nmode:")
    config = load_dataset(folder, "books")
    assert (config.train.st_path, config.rerank.model) == (str(folder / "books" / "model"), str(folder / "other"))


@pytest.mark.parametrize("st_path", ["bundled:all-MiniLM-L6-v2", "./model", "/models/m"])
def test_a_revision_of_what_is_no_hub_id_is_refused(folder: Path, st_path: str) -> None:
    edit(folder, "train.yaml", "bundled:all-MiniLM-L6-v2", f"{st_path}\nst_revision: main")
    with pytest.raises(ConfigError, match=rf"train\.yaml: st_revision must be left out .*, got st_path '{st_path}'"):
        load_dataset(folder, "books")


def test_the_revision_is_that_of_st_path_wherever_it_is_used(folder: Path) -> None:
    edit(folder, "train.yaml", "bundled:all-MiniLM-L6-v2", "org/model\nst_revision: v1")
    config = load_dataset(folder, "books")
    assert (config.revision_of("org/model"), config.revision_of("org/other")) == ("v1", None)


def test_raw_paths_start_at_the_yaml_file(folder: Path) -> None:
    assert load_dataset(folder, "books").data.persona.is_relative_to(folder.parent)


def test_out_root_variable_puts_each_dataset_below_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSONARANK_OUT_ROOT", str(folder / "out"))
    assert load_dataset(folder, "books").data.out_root == folder / "out" / "books"


def test_use_amp_0_switches_mixed_precision_off(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_dataset(folder, "books").train.amp
    monkeypatch.setenv("USE_AMP", "0")
    assert not load_dataset(folder, "books").train.amp


def test_config_dir_variable_chooses_the_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSONARANK_CONFIG_DIR", str(folder))
    assert dataset_names(config_dir()) == ["books"]


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (
            "train.yaml",
            "gamma: 0.65",
            "gamma: 1.3",
            r"train\.yaml: gamma must be a number in \(0, 1\], got 1\.3",
        ),
        ("train.yaml", "gamma: 0.65", "gama: 0.65", r"train\.yaml: unknown key gama; did you mean gamma\?"),
        (
            "train.yaml",
            "lr: 1.0e-3",
            "lr: 1e-3",
            r"train\.yaml: lr must be a number in \(0, 10\], got '1e-3' \(YAML reads",
        ),
        ("train.yaml", "lr: 1.0e-3", "lr: .nan", r"train\.yaml: lr must be a number in \(0, 10\], got nan"),
        ("train.yaml", "lr: 1.0e-3", "lr: .inf", r"train\.yaml: lr must be a number in \(0, 10\], got inf"),
        (
            "train.yaml",
            "seed: 13",
            "seed: -1",
            r"train\.yaml: seed must be a whole number from 0 to 2\^32 - 1, got -1",
        ),
        ("train.yaml", "amp: true", "amp: 1", r"train\.yaml: amp must be true or false, got 1"),
        ("train.yaml", "tune: head", "tune: ful", r"train\.yaml: tune must be full, lora or head, got 'ful'"),
        (
            "train.yaml",
            "seed: 13",
            "seed: 13\nseed: 14",
            r"train\.yaml: is not valid YAML: line 25: key seed is given twice, first in line 24; remove",
        ),
        (
            "rerank.yaml",
            '"N,D,I,R"',
            '"N,X"',
            r"rerank\.yaml: fields must be letters of N, D, I, R .* got 'N,X'",
        ),
        ("rerank.yaml", "[5, 10, 20]", "[]", r"rerank\.yaml: ks must be a list of whole numbers from 1"),
        (
            "rerank.yaml",
            "alpha: 0.5",
            "alpha: 2",
            r"rerank\.yaml: alpha must be a number in \[0, 1\], or auto, got 2",
        ),
        (
            "data.yaml",
            "schema: amazon",
            "schema: ebay",
            r"data\.yaml: schema must be amazon or yelp, got 'ebay'",
        ),
        (
            "data.yaml",
            "loo_history:",
            "history:",
            r"data\.yaml: loo_history is missing; it must be the path of",
        ),
        ("data.yaml", "schema: amazon", "[", r"data\.yaml: is not valid YAML"),
    ],
)
def test_an_error_names_file_key_rule_and_value(folder: Path, file: str, old: str, new: str, message: str) -> None:
    edit(folder, file, old, new)
    with pytest.raises(ConfigError, match=message):
        load_dataset(folder, "books")


def test_all_problems_of_a_file_are_listed_a_line_each(folder: Path) -> None:
    edit(folder, "train.yaml", "gamma: 0.65", "gamma: 0")
    edit(folder, "train.yaml", "seed: 13", "sed: 13")
    with pytest.raises(ConfigError) as error:
        load_dataset(folder, "books")
    assert len(str(error.value).splitlines()) == 2


def test_an_unknown_dataset_is_answered_with_the_known_ones(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown dataset 'films'; .* has: books"):
        load_dataset(folder, "films")


def test_of_many_names_a_message_lists_the_first() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed([str(number) for number in range(10_000)]).endswith("18, 19, … (10,000 in all)")


def test_an_empty_folder_is_answered_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected at least one dataset folder .* PERSONARANK_CONFIG_DIR"):
        dataset_names(tmp_path)


def test_a_folder_name_that_is_no_dataset_name_is_refused_and_hidden_ones_are_passed_over(folder: Path) -> None:
    (folder / ".checkpoints").mkdir()
    (folder / ".checkpoints" / "data.yaml").write_text("")
    assert dataset_names(folder) == ["books"]
    (folder / "books").rename(folder / "my books")
    with pytest.raises(ConfigError, match=r"my books: a dataset's name must be letters, digits, _ and -"):
        dataset_names(folder)


def test_files_may_be_lists_and_folders_may_not(folder: Path) -> None:
    data = edit(folder, "data.yaml", "candidates: ", "candidates: [a.jsonl, ../b.jsonl]\n# ")
    assert str(load_dataset(folder, "books").data.candidates) == f"{folder}/books/a.jsonl, {folder}/b.jsonl"
    data.write_text(data.read_text().replace("out_root: ", "out_root: [x, y]\n# "))
    with pytest.raises(ConfigError, match=r"out_root must be the path of a folder, got \['x', 'y'\]"):
        load_dataset(folder, "books")
